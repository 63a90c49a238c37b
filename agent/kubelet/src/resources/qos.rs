//! QoS class.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::{Amounts, all_containers};

/// How the node treats a pod when there is not enough for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Every container limits cpu and memory and requests as much.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The pod's class: the one in its status, which never changes, else computed from its spec.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|it| it.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => computed(pod),
    }
}

fn computed(pod: &Pod) -> QosClass {
    let own = pod.spec.as_ref().and_then(|it| it.resources.as_ref());
    let each: Vec<(Amounts, Amounts)> = match own {
        Some(own) => vec![both(Some(own))],
        None => all_containers(pod).map(|it| both(it.resources.as_ref())).collect(),
    };
    let counted = ["cpu", "memory"];
    let positive = |amounts: &Amounts, name| amounts.get(name).is_some_and(|it| it > 0);
    let any = each.iter().any(|(requests, limits)| {
        counted.iter().any(|name| positive(requests, name) || positive(limits, name))
    });
    if !any {
        return QosClass::BestEffort;
    }
    let all = each.iter().all(|(requests, limits)| {
        counted.iter().all(|name| {
            positive(limits, name) && requests.get(name).is_none_or(|it| Some(it) == limits.get(name))
        })
    });
    if all { QosClass::Guaranteed } else { QosClass::Burstable }
}

fn both(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    (
        Amounts::of(resources.and_then(|it| it.requests.as_ref())),
        Amounts::of(resources.and_then(|it| it.limits.as_ref())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: &[&str], want: QosClass) {
        let containers: Vec<String> = resources
            .iter()
            .enumerate()
            .map(|(n, it)| format!(r#"{{"name":"c{n}","resources":{it}}}"#))
            .collect();
        let pod: Pod =
            serde_json::from_str(&format!(r#"{{"spec":{{"containers":[{}]}}}}"#, containers.join(",")))
                .unwrap();
        assert_eq!(qos_class(&pod), want, "{resources:?}");
    }

    #[test]
    fn the_class_follows_requests_and_limits_of_every_container() {
        let full = r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#;
        check(&["{}"], QosClass::BestEffort);
        check(&[full], QosClass::Guaranteed);
        check(&[full, "{}"], QosClass::Burstable);
        check(
            &[r#"{"requests":{"cpu":"1000m","memory":"1024Mi"},"limits":{"cpu":"1","memory":"1Gi"}}"#],
            QosClass::Guaranteed,
        );
        check(
            &[r#"{"requests":{"cpu":"1","memory":"1Mi"},"limits":{"cpu":"1","memory":"1Gi"}}"#],
            QosClass::Burstable,
        );
        check(&[r#"{"limits":{"cpu":"1"}}"#], QosClass::Burstable);
        check(&[r#"{"requests":{"cpu":"0"}}"#], QosClass::BestEffort);
        check(&[r#"{"requests":{"ephemeral-storage":"1Gi"}}"#], QosClass::BestEffort);
    }
}
