//! What is particular to one kind: plain functions over JSON values. Everything that kinds have in common (verbs,
//! metadata, storage, watch) is written once in [`crate::registry`] over this shape.
//!
//! To add a kind: a `const` of [`KindOps`] with `..KindOps::BASE`, and a line in [`ops`]. A kind without a line works
//! with `BASE`: names as DNS subdomains, no status strategy beyond "status is its own subresource", no validation.

pub mod certificate; // certificate signing requests
mod core; // nodes, namespaces, configuration
mod events; // events of both groups
mod others; // scheduling, policy, networking, autoscaling, admission, resources
mod pod; // pods and pod templates
mod print; // columns and cells that kinds share
mod rbac; // roles and bindings
mod service; // services, endpoints, endpoint slices
mod storage; // volumes and what provides them
mod tree; // reading and filling JSON trees
mod validate; // checks that kinds share
mod workloads; // kinds that keep pods running

use coracle_apimachinery::field::FieldError;
use jiff::Timestamp;
use serde_json::Value;

/// One column of a server-printed table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading, e.g. `Ready`.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the identifying column.
    pub format: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: i32,
    /// One sentence for clients that show it.
    pub description: &'static str,
}

/// How a kind is printed.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// The columns, in order.
    pub columns: &'static [Column],
    /// One cell per column for one object.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Where objects of a kind rest when that is not under its own version: the stored group and version, and the way
/// there and back.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Group of the stored form.
    pub group: &'static str,
    /// Version of the stored form.
    pub version: &'static str,
    /// From this version to the stored one.
    pub to: fn(&mut Value),
    /// From the stored version to this one.
    pub from: fn(&mut Value),
}

/// What is particular to one kind. Functions get the object in the version of the request, after table defaults.
#[derive(Debug, Clone, Copy)]
pub struct KindOps {
    /// Defaults that the table cannot say (they depend on other fields). Runs on every decode.
    pub default: fn(&mut Value),
    /// Checks `metadata.name`; returns what is wrong with it.
    pub validate_name: fn(&str) -> Vec<String>,
    /// Clears and sets what a client may not choose at creation (e.g. drops `status`).
    pub prepare_create: fn(&mut Value),
    /// Checks a new object.
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// `(new, old)`: carries over what an update of the main resource may not change (e.g. `status`).
    pub prepare_update: fn(&mut Value, &Value),
    /// `(new, old)`: checks an update of the main resource.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// What a resize may not change.
    pub validate_resize: fn(&Value, &Value) -> Vec<FieldError>,
    /// `(new, old)`: carries over what an update of `/status` may not change. Generic code has already put back
    /// everything but `metadata` and `status`.
    pub prepare_status: fn(&mut Value, &Value),
    /// `(new, old)`: checks an update of `/status`.
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// Warnings for the client about a created or updated object.
    pub warnings: fn(&Value) -> Vec<String>,
    /// `metadata.generation` is 1 at creation and counts changes of everything but metadata and status.
    pub generation: bool,
    /// Field selectors besides `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
    /// Table columns; `None`: Name and Created At.
    pub printer: Option<Printer>,
    /// A PUT to a name that does not exist creates it.
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites.
    pub unconditional_update: bool,
    /// Finalizer propagation when a DELETE names no policy: `true` orphans dependents (old kinds), else background.
    pub orphan_by_default: bool,
    /// Where it rests, when not under its own version.
    pub stored: Option<Stored>,
}

fn no_change(_: &mut Value) {}
fn no_carry(_: &mut Value, _: &Value) {}
fn no_errors(_: &Value) -> Vec<FieldError> {
    Vec::new()
}
fn no_update_errors(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
fn no_warnings(_: &Value) -> Vec<String> {
    Vec::new()
}
fn subdomain(name: &str) -> Vec<String> {
    coracle_apimachinery::names::dns1123_subdomain(name)
}

impl KindOps {
    /// A kind without particulars.
    pub const BASE: Self = Self {
        default: no_change,
        validate_name: subdomain,
        prepare_create: no_change,
        validate_create: no_errors,
        prepare_update: no_carry,
        validate_update: no_update_errors,
        validate_resize: no_update_errors,
        prepare_status: no_carry,
        validate_status: no_update_errors,
        warnings: no_warnings,
        generation: false,
        fields: &[],
        printer: None,
        create_on_update: false,
        unconditional_update: true,
        orphan_by_default: false,
        stored: None,
    };
}

static BASE: KindOps = KindOps::BASE;

/// The particulars of a resource; `group` is empty for the core group.
pub fn ops(group: &str, version: &str, resource: &str) -> &'static KindOps {
    match group {
        "" => core_group(resource),
        "apps" => match resource {
            "deployments" => &workloads::DEPLOYMENT,
            "replicasets" => &workloads::REPLICA_SET,
            "statefulsets" => &workloads::STATEFUL_SET,
            "daemonsets" => &workloads::DAEMON_SET,
            "controllerrevisions" => &workloads::CONTROLLER_REVISION,
            _ => &BASE,
        },
        "batch" => match resource {
            "jobs" => &workloads::JOB,
            "cronjobs" => &workloads::CRON_JOB,
            _ => &BASE,
        },
        "rbac.authorization.k8s.io" => match resource {
            "roles" => &rbac::ROLE,
            "rolebindings" => &rbac::ROLE_BINDING,
            "clusterroles" => &rbac::CLUSTER_ROLE,
            "clusterrolebindings" => &rbac::CLUSTER_ROLE_BINDING,
            _ => &BASE,
        },
        "storage.k8s.io" => match resource {
            "storageclasses" => &storage::CLASS,
            "volumeattachments" => &storage::ATTACHMENT,
            "csidrivers" => &storage::CSI_DRIVER,
            "csinodes" => &storage::CSI_NODE,
            "volumeattributesclasses" => &storage::ATTRIBUTES_CLASS,
            _ => &BASE,
        },
        _ => other_group(group, version, resource),
    }
}

fn core_group(resource: &str) -> &'static KindOps {
    match resource {
        "pods" => &pod::POD,
        "podtemplates" => &pod::POD_TEMPLATE,
        "replicationcontrollers" => &workloads::REPLICATION_CONTROLLER,
        "services" => &service::SERVICE,
        "endpoints" => &service::ENDPOINTS,
        "nodes" => &core::NODE,
        "namespaces" => &core::NAMESPACE,
        "configmaps" => &core::CONFIG_MAP,
        "secrets" => &core::SECRET,
        "serviceaccounts" => &core::SERVICE_ACCOUNT,
        "events" => &events::EVENT,
        "componentstatuses" => &core::COMPONENT_STATUS,
        "limitranges" => &core::LIMIT_RANGE,
        "resourcequotas" => &core::RESOURCE_QUOTA,
        "persistentvolumes" => &storage::VOLUME,
        "persistentvolumeclaims" => &storage::CLAIM,
        _ => &BASE,
    }
}

fn other_group(group: &str, version: &str, resource: &str) -> &'static KindOps {
    match (group, resource) {
        ("events.k8s.io", "events") => &events::EVENTS_EVENT,
        ("coordination.k8s.io", "leases") => &core::LEASE,
        ("discovery.k8s.io", "endpointslices") => &service::ENDPOINT_SLICE,
        ("scheduling.k8s.io", "priorityclasses") => &others::PRIORITY_CLASS,
        ("apiregistration.k8s.io", "apiservices") => &others::API_SERVICE,
        ("node.k8s.io", "runtimeclasses") => &others::RUNTIME_CLASS,
        ("policy", "poddisruptionbudgets") => &others::DISRUPTION_BUDGET,
        ("autoscaling", "horizontalpodautoscalers") if version == "v1" => &others::AUTOSCALER_V1,
        ("autoscaling", "horizontalpodautoscalers") => &others::AUTOSCALER,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificate::CERTIFICATE_REQUEST,
        ("networking.k8s.io", "ingresses") => &others::INGRESS,
        ("networking.k8s.io", "ingressclasses") => &others::INGRESS_CLASS,
        ("networking.k8s.io", "networkpolicies") => &others::NETWORK_POLICY,
        ("networking.k8s.io", "ipaddresses") => &others::IP_ADDRESS,
        ("networking.k8s.io", "servicecidrs") => &others::SERVICE_CIDR,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &others::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &others::PRIORITY_LEVEL,
        ("resource.k8s.io", "resourceclaims") => &others::RESOURCE_CLAIM,
        ("resource.k8s.io", "resourceslices") => &others::RESOURCE_SLICE,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => &core::NAME_AND_AGE,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => &others::VALIDATING_WEBHOOKS,
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => &others::MUTATING_WEBHOOKS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &others::VALIDATING_POLICY,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => &others::MUTATING_POLICY,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => &others::POLICY_BINDING,
        _ => &BASE,
    }
}

#[cfg(test)]
mod tests; // what must hold for every kind
