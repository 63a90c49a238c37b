//! The packages of the table and the API groups they stand for.

/// Package, group.
const GROUPS: [(&str, &str); 29] = [
    ("admission", "admission.k8s.io"),
    ("admissionregistration", "admissionregistration.k8s.io"),
    ("apidiscovery", "apidiscovery.k8s.io"),
    ("apiextensions", "apiextensions.k8s.io"),
    ("apiregistration", "apiregistration.k8s.io"),
    ("apiserverinternal", "internal.apiserver.k8s.io"),
    ("apps", "apps"),
    ("authentication", "authentication.k8s.io"),
    ("authorization", "authorization.k8s.io"),
    ("autoscaling", "autoscaling"),
    ("batch", "batch"),
    ("certificates", "certificates.k8s.io"),
    ("coordination", "coordination.k8s.io"),
    ("core", ""),
    ("discovery", "discovery.k8s.io"),
    ("events", "events.k8s.io"),
    ("flowcontrol", "flowcontrol.apiserver.k8s.io"),
    ("meta", "meta.k8s.io"),
    ("metrics", "metrics.k8s.io"),
    ("networking", "networking.k8s.io"),
    ("node", "node.k8s.io"),
    ("policy", "policy"),
    ("rbac", "rbac.authorization.k8s.io"),
    ("resource", "resource.k8s.io"),
    ("scheduling", "scheduling.k8s.io"),
    ("storage", "storage.k8s.io"),
    ("storagemigration", "storagemigration.k8s.io"),
    ("extensions", "extensions"),
    ("imagepolicy", "imagepolicy.k8s.io"),
];

/// The table's package of a group.
pub fn package_of(group: &str) -> Option<&'static str> {
    GROUPS.iter().find(|(_, name)| *name == group).map(|(package, _)| *package)
}

/// The API group of a package of the table.
pub fn group_of(package: &str) -> &'static str {
    GROUPS.iter().find(|(name, _)| *name == package).map_or("", |(_, group)| *group)
}

/// Kinds of `meta/v1` that every group version has.
pub(super) fn is_everywhere(kind: &str) -> bool {
    matches!(
        kind,
        "Status"
            | "WatchEvent"
            | "DeleteOptions"
            | "CreateOptions"
            | "UpdateOptions"
            | "PatchOptions"
            | "ListOptions"
            | "GetOptions"
            | "APIGroup"
            | "APIGroupList"
            | "APIResourceList"
            | "APIVersions"
            | "List"
            | "PartialObjectMetadata"
            | "PartialObjectMetadataList"
            | "Table"
    )
}

/// The name of a message's OpenAPI definition: `core/v1.Pod` -> `io.k8s.api.core.v1.Pod`.
pub fn definition_name(message: &str) -> String {
    let Some((package, rest)) = message.split_once('/') else { return message.to_owned() };
    let prefix = match package {
        "meta" => "io.k8s.apimachinery.pkg.apis.meta",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.apiregistration",
        "metrics" => "io.k8s.metrics.pkg.apis.metrics",
        _ => return format!("io.k8s.api.{package}.{rest}"),
    };
    format!("{prefix}.{rest}")
}
