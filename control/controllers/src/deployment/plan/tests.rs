use super::*;

/// One set per word: `template:size/available`, further `@revision`, `!desired`, `^max`, `+` if it still has a pod.
fn set(text: &str, position: usize) -> ReplicaSet {
    let (template, rest) = text.split_once(':').unwrap();
    let (sizes, marks) = rest.split_at(rest.find(['@', '!', '^', '+']).unwrap_or(rest.len()));
    let (size, available) = sizes.split_once('/').unwrap();
    let mark =
        |sign: char| marks.split_once(sign).map(|(_, it)| it.split(['@', '!', '^', '+']).next().unwrap());
    let mut annotations = serde_json::Map::new();
    for (sign, key) in [('@', REVISION), ('!', DESIRED), ('^', MAX)] {
        if let Some(value) = mark(sign) {
            annotations.insert(key.into(), value.into());
        }
    }
    let (size, available): (i32, i32) = (size.parse().unwrap(), available.parse().unwrap());
    serde_json::from_value(json!({
        "metadata": {"name": template, "uid": template, "annotations": annotations,
            "creationTimestamp": format!("2026-01-01T00:00:{position:02}Z")},
        "spec": {"replicas": size, "template": {"spec": {"t": template}}},
        "status": {"replicas": if marks.contains('+') { 1 } else { size.min(available) },
            "availableReplicas": available, "terminatingReplicas": 0},
    }))
    .unwrap()
}

/// `template size [surge N] [unavailable N] [recreate] [paused] [limit N] [rev N] [complete]`
fn deployment(text: &str) -> Deployment {
    let mut words = text.split_whitespace();
    let (template, size) = (words.next().unwrap(), words.next().unwrap().parse::<i32>().unwrap());
    let mut it = json!({
        "metadata": {"name": "d", "namespace": "n", "uid": "du", "generation": 1, "annotations": {REVISION: "1"}},
        "spec": {"replicas": size, "template": {"spec": {"t": template}}, "selector": {"matchLabels": {"a": "b"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
        "status": {"conditions": []},
    });
    while let Some(word) = words.next() {
        let mut number = || words.next().unwrap().parse::<i32>().unwrap();
        match word {
            "surge" => it["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = number().into(),
            "unavailable" => it["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = number().into(),
            "recreate" => it["spec"]["strategy"] = json!({"type": "Recreate"}),
            "paused" => it["spec"]["paused"] = true.into(),
            "limit" => it["spec"]["revisionHistoryLimit"] = number().into(),
            "rev" => it["metadata"]["annotations"][REVISION] = number().to_string().into(),
            "complete" => {
                it["status"] = json!({"observedGeneration": 1, "replicas": size, "updatedReplicas": size,
                    "availableReplicas": size});
            }
            _ => panic!("{word}"),
        }
    }
    serde_json::from_value(it).unwrap()
}

fn actions(deployment_text: &str, sets: &str, running: &str) -> String {
    let sets = sets.split_whitespace().enumerate().map(|(index, text)| set(text, index)).collect();
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let plan = plan(&deployment(deployment_text), sets, &|uid| uid == running, now);
    let text = |action: &Action| match action {
        Action::Revise(revision) => format!("revise {revision}"),
        Action::Create { body, replicas, .. } => {
            format!(
                "create {} @{} x{replicas}",
                body["spec"]["template"]["spec"]["t"].as_str().unwrap(),
                body["metadata"]["annotations"][REVISION].as_str().unwrap()
            )
        }
        Action::Update { name, patch } => {
            format!("update {name} @{}", patch["metadata"]["annotations"][REVISION].as_str().unwrap_or("-"))
        }
        Action::Scale { name, from, to, .. } => format!("{name} {from}>{to}"),
        Action::Delete { name, .. } => format!("delete {name}"),
    };
    plan.actions.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn check(deployment: &str, sets: &str, want: &str) {
    assert_eq!(actions(deployment, sets, ""), want, "{deployment} | {sets}");
}

#[test]
fn the_first_set_has_all_pods() {
    check("a 3", "", "create a @1 x3");
    check("a 3", "a:3/0@1!3^4", "");
    check("a 0", "", "create a @1 x0");
}

#[test]
fn a_new_template_rolls_out_step_by_step() {
    check("b 3", "a:3/3@1!3^4", "create b @2 x1, revise 2");
    check("b 3 rev 2", "a:3/3@1!3^4 b:1/0@2!3^4", "");
    check("b 3 rev 2", "a:3/3@1!3^4 b:1/1@2!3^4", "a 3>2");
    check("b 3 rev 2", "a:2/2@1!3^4 b:1/1@2!3^4", "b 1>2");
    check("b 3 rev 2", "a:1/1@1!3^4 b:3/2@2!3^4", "");
    check("b 3 rev 2", "a:1/1@1!3^4 b:3/3@2!3^4", "a 1>0");
    check("b 3 rev 2", "a:0/0@1!3^4 b:3/3@2!3^4", "");
}

#[test]
fn unavailability_is_used_before_surge() {
    check("b 4 surge 0 unavailable 2 rev 2", "a:4/4@1!4^4 b:0/0@2!4^4", "a 4>2");
    check("b 4 surge 0 unavailable 2 rev 2", "a:2/2@1!4^4 b:0/0@2!4^4", "b 0>2");
    check("b 10 surge 3 unavailable 2 rev 2", "a:10/10@1!10^13 b:3/0@2!10^13", "a 10>8");
}

#[test]
fn broken_old_pods_go_first() {
    check("b 3 rev 2", "a:3/1@1!3^4 b:1/0@2!3^4", "");
    check("b 3 unavailable 1 surge 1 rev 2", "a:3/1@1!3^4 b:1/0@2!3^4", "a 3>2");
    check("c 3 rev 3", "a:2/0@1!3^4 b:1/1@2!3^4 c:1/1@3!3^4", "a 2>1");
}

#[test]
fn undo_reuses_the_old_set_under_a_new_revision() {
    check("a 3 rev 2", "a:0/0@1!3^4 b:3/3@2!3^4", "update a @3, revise 3, a 0>1");
}

#[test]
fn scaling_needs_no_rollout() {
    check("a 5", "a:3/3@1!3^4", "a 3>5");
    check("a 0", "a:3/3@1!3^4", "a 3>0");
    check("b 5 rev 2", "a:0/0@1!3^4 b:3/3@2!3^4", "b 3>5");
    check("b 3 rev 2", "a:1/1@1!9^9 b:3/3@2!3^4", "a 1>0");
}

#[test]
fn in_the_middle_of_a_rollout_scaling_is_proportional() {
    check("b 20 surge 5 rev 2", "a:8/8@1!10^13 b:5/5@2!10^13", "a 8>15, b 5>10");
    check("b 5 surge 1 rev 2", "a:8/8@1!10^13 b:5/5@2!10^13", "a 8>4, b 5>2");
    check("b 0 rev 2", "a:2/2@1!3^4 b:1/1@2!3^4", "a 2>0, b 1>0");
}

#[test]
fn a_pause_scales_but_does_not_roll_out() {
    check("b 3 paused", "a:3/3@1!3^4", "");
    check("b 5 paused", "a:3/3@1!3^4", "a 3>5");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    check("a 2 recreate", "", "create a @1 x2");
    check("b 2 recreate", "a:2/2@1!2^2", "a 2>0");
    check("b 2 recreate", "a:0/0@1!2^2+", "");
    assert_eq!(actions("b 2 recreate", "a:0/0@1!2^2", "a"), "");
    assert_eq!(actions("b 2 recreate", "a:0/0@1!2^2", ""), "create b @2 x2, revise 2");
}

#[test]
fn history_is_kept_to_its_limit() {
    let sets = "a:0/0@1!1^2 b:0/0@2!1^2 c:0/0@3!1^2 d:1/1@4!1^2";
    check("d 1 limit 2 rev 4 complete", sets, "delete a");
    check("d 1 limit 0 rev 4 complete", sets, "delete a, delete b, delete c");
    check("d 1 limit 0 rev 4", sets, "");
    check("d 1 limit 0 rev 4 complete", "a:0/0@1!1^2+ d:1/1@4!1^2", "");
}

#[test]
fn the_new_set_is_made_of_the_template() {
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let plan = plan(&deployment("a 3"), vec![], &|_| false, now);
    let Action::Create { name, body, .. } = &plan.actions[0] else { panic!("{:?}", plan.actions) };
    let hash = name.strip_prefix("d-").unwrap();
    assert_eq!(body["metadata"]["labels"], json!({HASH_LABEL: hash}));
    assert_eq!(body["spec"]["selector"]["matchLabels"], json!({"a": "b", HASH_LABEL: hash}));
    assert_eq!(body["spec"]["template"]["metadata"]["labels"][HASH_LABEL], hash);
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "du");
    assert_eq!(plan.status.unavailable_replicas, 3);
}

#[test]
fn every_rollout_ends_and_never_breaks_its_bounds() {
    for (size, surge, unavailable) in
        [(1, 1, 0), (3, 1, 0), (4, 0, 2), (10, 3, 2), (7, 7, 0), (5, 0, 0), (2, 0, 9)]
    {
        let text = format!("b {size} surge {surge} unavailable {unavailable} rev 2");
        let it = deployment(&text);
        let (most, least) = (size + max_surge(&it), size - max_unavailable(&it));
        let mut sizes = [(size, size), (0, 0)];
        for round in 0.. {
            assert!(round < 100, "{text}: no end, {sizes:?}");
            let sets: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(index, (size, available))| {
                    let name = ["a", "b"][index];
                    let (desired, max) = (it.spec.replicas.unwrap(), most);
                    set(&format!("{name}:{size}/{available}@{}!{desired}^{max}", index + 1), index)
                })
                .collect();
            let plan = plan(&it, sets, &|_| false, "2026-01-01T01:00:00Z".parse().unwrap());
            let mut moved = false;
            for action in &plan.actions {
                if let Action::Scale { name, to, .. } = action {
                    let slot = &mut sizes[usize::from(name == "b")];
                    slot.0 = *to;
                    slot.1 = slot.1.min(*to);
                    moved = true;
                }
            }
            assert!(sizes[0].0 + sizes[1].0 <= most, "{text}: {sizes:?}");
            assert!(sizes[0].1 + sizes[1].1 >= least, "{text}: {sizes:?}");
            if !moved && sizes[1].1 == sizes[1].0 {
                break;
            }
            // Of the new pods one more becomes available per round.
            sizes[1].1 = (sizes[1].1 + 1).min(sizes[1].0);
        }
        assert_eq!(sizes, [(0, 0), (size, size)], "{text}");
    }
}
