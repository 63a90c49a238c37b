//! Whether a running pod may have the resources that it now wants: pure.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::pod;
use crate::resources::{Amounts, pod_requests};
use crate::worker::Pending;

/// Grants the wish, or says why not. `others` are the pods that count on this node, as they were allocated.
pub fn decide<'a>(
    wanted: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: Option<&Node>,
) -> Result<(), Pending> {
    let pending = |reason, message| Err(Pending { reason, message });
    if pod::is_static(wanted) {
        return pending("Infeasible", "In-place resize of static-pods is not supported".to_owned());
    }
    let allocatable = node.and_then(|it| it.status.as_ref()).and_then(|it| it.allocatable.as_ref());
    let Some(allocatable) = allocatable.map(|it| Amounts::of(Some(it))) else { return Ok(()) };
    let requests = pod_requests(wanted);
    for what in ["cpu", "memory"] {
        let (requested, Some(capacity)) = (requests.get(what).unwrap_or(0), allocatable.get(what)) else {
            continue;
        };
        if requested > capacity {
            let message = format!(
                "Node didn't have enough capacity: {what}, requested: {requested}, capacity: {capacity}"
            );
            return pending("Infeasible", message);
        }
        let used: i64 = others.clone().filter_map(|it| pod_requests(it).get(what)).sum();
        if requested > 0 && used + requested > capacity {
            let message = format!(
                "Node didn't have enough resource: {what}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return pending("Deferred", message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn too_much_for_the_node_or_only_for_now() {
        let pod = |cpu: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]},
            }))
            .unwrap()
        };
        let node: Node =
            serde_json::from_value(json!({"status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}))
                .unwrap();
        let others = [pod("500m"), pod("1")];
        let check = |cpu: &str, want: Result<(), &str>| {
            let got = decide(&pod(cpu), others.iter(), Some(&node));
            assert_eq!(got.as_ref().map_err(|it| it.reason).copied(), want, "{cpu}: {got:?}");
        };
        check("500m", Ok(()));
        check("501m", Err("Deferred"));
        check("3", Err("Infeasible"));
        assert_eq!(decide(&pod("3"), others.iter(), None), Ok(()), "the node is not known yet");
    }
}
