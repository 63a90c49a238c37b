//! Who ends when, and with how much time: pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// Pods that end together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// How long they have.
    pub within: Duration,
    /// Uid and grace of each.
    pub pods: Vec<(String, Duration)>,
}

/// The groups in their order: the lowest priority first. A pod belongs to the highest row that it reaches, and one below
/// all rows to the lowest; its own grace is kept when that is shorter than the row's time.
pub(super) fn groups<'a>(table: &[(i32, Duration)], pods: impl Iterator<Item = &'a Pod>) -> Vec<Group> {
    let mut groups: Vec<Group> =
        table.iter().map(|(_, within)| Group { within: *within, pods: Vec::new() }).collect();
    for it in pods {
        let priority = it.spec.as_ref().and_then(|it| it.priority).unwrap_or(0);
        let row = table.iter().rposition(|(from, _)| *from <= priority).unwrap_or(0);
        if let Some(group) = groups.get_mut(row) {
            let grace = pod::grace(it).min(group.within);
            group.pods.push((pod::uid(it).to_owned(), grace));
        }
    }
    groups.retain(|it| !it.pods.is_empty());
    groups
}

/// How long all of it may take.
pub(super) fn whole(table: &[(i32, Duration)]) -> Duration {
    table.iter().map(|(_, within)| *within).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_priorities_end_first_and_own_graces_count_when_shorter() {
        let seconds = Duration::from_secs;
        let pod = |uid: &str, priority: Option<i32>, grace: i64| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"uid": uid},
                "spec": {"priority": priority, "terminationGracePeriodSeconds": grace, "containers": []},
            }))
            .unwrap()
        };
        let pods = [
            pod("critical", Some(2_000_001_000), 60),
            pod("plain", None, 30),
            pod("quick", Some(5), 2),
            pod("less", Some(-5), 600),
        ];
        let table = [(0, seconds(20)), (2_000_000_000, seconds(10))];
        let of = |it: &str, grace| (it.to_owned(), seconds(grace));
        assert_eq!(
            groups(&table, pods.iter()),
            [
                Group { within: seconds(20), pods: vec![of("plain", 20), of("quick", 2), of("less", 20)] },
                Group { within: seconds(10), pods: vec![of("critical", 10)] },
            ]
        );
        assert_eq!(whole(&table), seconds(30));
        assert_eq!(groups(&table, pods[..1].iter()).len(), 1, "a group without pods takes no time");
        assert_eq!(groups(&[], pods.iter()), []);
    }
}
