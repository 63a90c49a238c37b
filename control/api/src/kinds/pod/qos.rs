//! The class of service a pod gets, from its requests and limits.

use coracle_apimachinery::Quantity;
use serde_json::Value;

use crate::kinds::tree::{list, text};

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    if spec["resources"].is_object()
        && (any(&spec["resources"], "requests") || any(&spec["resources"], "limits"))
    {
        return if guaranteed(&spec["resources"]) { "Guaranteed" } else { "Burstable" };
    }
    let containers = || list(&spec["initContainers"]).iter().chain(list(&spec["containers"]));
    if !containers().any(|c| any(&c["resources"], "requests") || any(&c["resources"], "limits")) {
        return "BestEffort";
    }
    if containers().all(|c| guaranteed(&c["resources"])) { "Guaranteed" } else { "Burstable" }
}

fn amount(resources: &Value, list: &str, name: &str) -> Option<Quantity> {
    let quantity = Quantity::parse(text(&resources[list][name])).ok()?;
    (!quantity.is_zero()).then_some(quantity)
}

fn any(resources: &Value, list: &str) -> bool {
    COUNTED.iter().any(|name| amount(resources, list, name).is_some())
}

/// Both limits, and requests that are absent or the same.
fn guaranteed(resources: &Value) -> bool {
    COUNTED.iter().all(|name| {
        let limit = amount(resources, "limits", name);
        limit.is_some() && amount(resources, "requests", name).is_none_or(|request| Some(request) == limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let check = |resources: Value, expected: &str| {
            let pod = json!({"spec": {"containers": [{"resources": resources}]}});
            assert_eq!(class(&pod), expected, "{pod}");
        };
        check(json!({}), "BestEffort");
        check(json!({"requests": {"ephemeral-storage": "1Gi"}}), "BestEffort");
        check(json!({"requests": {"cpu": "0"}}), "BestEffort");
        check(json!({"requests": {"cpu": "1"}}), "Burstable");
        check(json!({"limits": {"cpu": "1"}}), "Burstable");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed");
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        );
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable");
    }
}
