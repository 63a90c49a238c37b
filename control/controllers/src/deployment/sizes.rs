//! How many pods a rollout may have, add and remove: upstream's arithmetic.

use crate::views::{Deployment, IntOrString};

/// Wanted pods; the API's default is one.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    deployment.spec.strategy.kind != "Recreate"
}

/// The pods that may exist beyond the wanted ones.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// The wanted pods that may be unavailable.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) || wanted == 0 { 0 } else { fenceposts(deployment).1.min(wanted) }
}

/// Surge rounded up and unavailability rounded down; not both zero, or nothing could ever move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let update = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
    let quarter = IntOrString::Text("25%".into());
    let wanted = replicas(deployment);
    let surge = scaled(update.max_surge.as_ref().unwrap_or(&quarter), wanted, true);
    let unavailable = scaled(update.max_unavailable.as_ref().unwrap_or(&quarter), wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn scaled(value: &IntOrString, of: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::Text(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|it| it.parse().ok()).unwrap_or(0);
            let hundredths = percent * i64::from(of) + if up { 99 } else { 0 };
            i32::try_from(hundredths.div_euclid(100)).unwrap_or(i32::MAX)
        }
    }
}

/// What a ReplicaSet of `size` should get of a change of `to_add` pods, of which `added` are given out already.
///
/// `annotated_max` is the most pods the Deployment was allowed when the set was last sized.
pub(super) fn proportion(
    deployment: &Deployment,
    size: i32,
    annotated_max: i32,
    to_add: i32,
    added: i32,
) -> i32 {
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, size, annotated_max);
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(deployment: &Deployment, size: i32, annotated_max: i32) -> i32 {
    if replicas(deployment) == 0 {
        return -size;
    }
    let now = i64::from(replicas(deployment) + max_surge(deployment));
    let before = i64::from(if annotated_max > 0 { annotated_max } else { deployment.status.replicas });
    if before <= 0 {
        return 0;
    }
    // Rounded to the nearest, halves away from zero; all terms are positive.
    let new_size = (i64::from(size) * now * 2 + before) / (before * 2);
    i32::try_from(new_size).unwrap_or(i32::MAX) - size
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i32, surge: &serde_json::Value, unavailable: &serde_json::Value) -> Deployment {
        serde_json::from_value(json!({"spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
        .unwrap()
    }

    #[test]
    fn surge_and_unavailability() {
        let check =
            |replicas: i32, surge: serde_json::Value, unavailable: serde_json::Value, want: (i32, i32)| {
                let it = deployment(replicas, &surge, &unavailable);
                assert_eq!((max_surge(&it), max_unavailable(&it)), want, "{replicas} {surge} {unavailable}");
            };
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(1, json!("25%"), json!("25%"), (1, 0));
        check(4, json!(0), json!("10%"), (0, 1));
        check(4, json!(0), json!(9), (0, 4));
        check(0, json!("25%"), json!("25%"), (0, 0));
        check(3, json!("100%"), json!(0), (3, 0));
        check(10, serde_json::Value::Null, serde_json::Value::Null, (3, 2));
    }

    #[test]
    fn shares_of_a_change() {
        // 10 pods with surge 3 as 8 + 5, scaled to 20 with surge 5: 13 becomes 25.
        let it = deployment(20, &json!("25%"), &json!(0));
        assert_eq!(proportion(&it, 8, 13, 12, 0), 7);
        assert_eq!(proportion(&it, 5, 13, 12, 7), 5);
        assert_eq!(proportion(&it, 5, 13, 12, 12), 0);
        let down = deployment(0, &json!("25%"), &json!(0));
        assert_eq!(proportion(&down, 8, 13, -8, 0), -8);
    }
}
