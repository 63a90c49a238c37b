//! A file into a static pod.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;

/// Why a manifest is not a static pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Neither JSON nor YAML, or not a Pod.
    #[error("couldn't parse as pod({0}), please check config file")]
    Parse(String),
    /// A Pod that cannot be static.
    #[error("{0}")]
    Refused(String),
}

/// Where a manifest was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The folder of manifests.
    File,
    /// `staticPodURL`.
    Web,
}

impl Origin {
    /// As the annotation says it.
    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Web => "http",
        }
    }
}

/// Reads a manifest (JSON or YAML) as upstream does: its name gets the node's, its uid is a hash of its content.
pub fn parse(text: &str, origin: Origin, node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    let pod: Pod = match serde_json::from_str(text) {
        Ok(pod) => pod,
        Err(_) => serde_saphyr::from_str(text).map_err(|err| ManifestError::Parse(err.to_string()))?,
    };
    made_static(pod, origin, node, now)
}

/// Reads one pod or a list of them.
pub fn parse_all(text: &str, origin: Origin, node: &str, now: Timestamp) -> Result<Vec<Pod>, ManifestError> {
    #[derive(serde::Deserialize)]
    struct Listed {
        items: Option<Vec<Pod>>,
    }
    let listed: Listed = match serde_json::from_str(text) {
        Ok(listed) => listed,
        Err(_) => serde_saphyr::from_str(text).map_err(|err| ManifestError::Parse(err.to_string()))?,
    };
    match listed.items {
        Some(pods) => pods.into_iter().map(|it| made_static(it, origin, node, now)).collect(),
        None => parse(text, origin, node, now).map(|it| vec![it]),
    }
}

fn made_static(mut pod: Pod, origin: Origin, node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    let Some(spec) = pod.spec.as_mut().filter(|it| !it.containers.is_empty()) else {
        return Err(ManifestError::Refused("invalid pod: spec.containers: Required value".into()));
    };
    default(spec);
    spec.node_name = Some(node.to_owned());
    let name = pod.metadata.name.clone().filter(|it| !it.is_empty());
    let name =
        name.ok_or_else(|| ManifestError::Refused("invalid pod: metadata.name: Required value".into()))?;
    if let Some(what) = reference(&pod) {
        return Err(ManifestError::Refused(format!("static pods may not reference {what}")));
    }
    let given = pod.metadata.uid.clone().filter(|it| !it.is_empty());
    let hash = given.unwrap_or_else(|| hash(&pod, node));
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace = meta.namespace.clone().filter(|it| !it.is_empty()).or_else(|| Some("default".into()));
    meta.uid = Some(hash.clone());
    meta.creation_timestamp = Some(Time(now));
    meta.generation = Some(1);
    let annotations = meta.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(pod::CONFIG_HASH.into(), hash);
    annotations.insert(pod::CONFIG_SOURCE.into(), origin.name().into());
    annotations.insert(pod::CONFIG_SEEN.into(), now.to_string());
    pod.status = Some(PodStatus {
        phase: Some("Pending".into()),
        conditions: Some(vec![PodCondition {
            type_: "PodScheduled".into(),
            status: "True".into(),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    Ok(pod)
}

/// What the API server would have filled in.
fn default(spec: &mut k8s_openapi::api::core::v1::PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_with(Default::default);
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    // Upstream's static pods stay on a node whatever its taints.
    let stay = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_with(Vec::new);
    if !tolerations.contains(&stay) {
        tolerations.push(stay);
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
            if spec.host_network == Some(true) {
                port.host_port.get_or_insert(port.container_port);
            }
        }
    }
}

/// The first object of the API that the pod refers to.
fn reference(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    if spec.service_account_name.as_deref().is_some_and(|it| !it.is_empty()) {
        return Some("serviceaccounts");
    }
    if !crate::objects::references(pod).is_empty() {
        return Some("configmaps or secrets");
    }
    None
}

/// A hash of the content, not of how we happen to hold it: the same for every version of this program.
fn hash(pod: &Pod, node: &str) -> String {
    let content = serde_json::to_vec(pod).unwrap_or_default();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&content);
    context.update(b"host:");
    context.update(node.as_bytes());
    context.finish().as_ref().iter().take(16).map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: app, image: demo}\n";

    #[test]
    fn a_manifest() {
        let pod = parse(WEB, Origin::File, "node-1", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(pod::key(&pod), "default/web-node-1");
        assert_eq!(pod::uid(&pod).len(), 32);
        assert_eq!(pod::annotation(&pod, pod::CONFIG_SOURCE), Some("file"));
        assert!(pod::is_static(&pod));
        let again = parse(WEB, Origin::File, "node-1", Timestamp::now()).unwrap();
        assert_eq!(pod::uid(&pod), pod::uid(&again), "the same content is the same pod");
        let changed =
            parse(&WEB.replace("demo", "demo:2"), Origin::File, "node-1", Timestamp::now()).unwrap();
        assert_ne!(pod::uid(&pod), pod::uid(&changed));
    }

    #[test]
    fn one_pod_or_a_list_of_them() {
        let all = |text: &str| parse_all(text, Origin::Web, "n", Timestamp::UNIX_EPOCH);
        let keys = |text: &str| all(text).unwrap().iter().map(pod::key).collect::<Vec<_>>();
        assert_eq!(keys(WEB), ["default/web-n"]);
        let one = |name: &str| {
            format!("{{metadata: {{name: {name}}}, spec: {{containers: [{{name: a, image: b}}]}}}}")
        };
        let list = format!("kind: PodList\nitems: [{}, {}]", one("a"), one("b"));
        assert_eq!(keys(&list), ["default/a-n", "default/b-n"]);
        assert!(keys("kind: PodList\nitems: []").is_empty());
        let pods = all(WEB).unwrap();
        assert_eq!(pod::annotation(&pods[0], pod::CONFIG_SOURCE), Some("http"));
        assert!(pod::is_static(&pods[0]));
        assert!(all("kind: PodList\nitems: [{metadata: {name: a}}]").is_err());
    }

    #[test]
    fn refused() {
        let check = |text: &str, part: &str| {
            let err = parse(text, Origin::File, "n", Timestamp::UNIX_EPOCH).unwrap_err().to_string();
            assert!(err.contains(part), "{err}");
        };
        check("nonsense: [", "couldn't parse as pod");
        check("kind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "spec.containers");
        let account = WEB.replace("spec:\n", "spec:\n  serviceAccountName: me\n");
        check(&account, "may not reference serviceaccounts");
        check(&WEB.replace("{name: web}", "{}"), "metadata.name");
    }
}
