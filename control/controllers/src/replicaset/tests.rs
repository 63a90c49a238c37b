//! Deployments and ReplicaSets against the server in memory, end to end.

use crate::testing::Cluster;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/a/replicasets";
const PODS: &str = "/api/v1/namespaces/a/pods";
const EVENTS: &str = "/api/v1/namespaces/a/events";

impl Cluster {
    fn deploy(&self, replicas: i32, image: &str) {
        let body = json!({"metadata": {"name": "web"}, "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}}});
        self.api.create(DEPLOYMENTS, body);
    }

    fn pods(&self) -> Vec<Value> {
        self.api.list(PODS)
    }

    /// Plays kubelet until every pod is ready and the Deployment says it is complete with this image.
    async fn settle(&self, replicas: usize, image: &str) {
        self.api
            .until(|api| {
                for pod in api.list(PODS) {
                    let ready = pod["status"]["phase"] == "Running";
                    let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
                    if !ready {
                        api.merge(&path, &json!({"status": {"phase": "Running", "conditions": [
                            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}));
                    }
                }
                let deployment = api.get(&format!("{DEPLOYMENTS}/web"))?;
                let pods = api.list(PODS);
                let all = pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image);
                let progressing = deployment["status"]["conditions"]
                    .as_array()?
                    .iter()
                    .find(|it| it["type"] == "Progressing")?["reason"]
                    .clone();
                (all && pods.len() == replicas
                    && deployment["status"]["availableReplicas"] == replicas
                    && deployment["status"]["updatedReplicas"] == replicas
                    && progressing == "NewReplicaSetAvailable")
                    .then_some(())
            })
            .await;
    }

    async fn event(&self, message: &str) {
        self.api.until(|api| api.list(EVENTS).into_iter().find(|it| it["message"] == message)).await;
    }
}

#[tokio::test]
async fn a_deployment_makes_pods_scales_rolls_and_undoes() {
    let mut cluster = Cluster::start();
    let api = cluster.api.clone();
    cluster.deploy(2, "v1");
    cluster.settle(2, "v1").await;
    let first = api.list(SETS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.event(&format!("Scaled up replica set {first} from 0 to 2")).await;
    let pod = cluster.pods()[0].clone();
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], first.as_str());
    cluster.event(&format!("Created pod: {}", pod["metadata"]["name"].as_str().unwrap())).await;

    api.merge(&format!("{DEPLOYMENTS}/web"), &json!({"spec": {"replicas": 5}}));
    cluster.settle(5, "v1").await;
    assert_eq!(api.list(SETS).len(), 1, "scaling makes no new set");

    let template = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
    api.merge(&format!("{DEPLOYMENTS}/web"), &template("v2"));
    cluster.settle(5, "v2").await;
    assert_eq!(api.list(SETS).len(), 2);
    let deployment = api.get(&format!("{DEPLOYMENTS}/web")).unwrap();
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");

    api.merge(&format!("{DEPLOYMENTS}/web"), &template("v1"));
    cluster.settle(5, "v1").await;
    let again = api.get(&format!("{SETS}/{first}")).unwrap();
    assert_eq!(again["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(again["spec"]["replicas"], 5);
    cluster.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_comes_back_and_no_more() {
    let mut cluster = Cluster::start();
    cluster.deploy(3, "v1");
    cluster.settle(3, "v1").await;
    let before: BTreeSet<_> = cluster.pods().iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
    let victim = cluster.pods()[1]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.api.delete(&format!("{PODS}/{victim}"), &json!({}));
    cluster.settle(3, "v1").await;
    let after: BTreeSet<_> = cluster.pods().iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
    assert_eq!(before.intersection(&after).count(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn orphans_are_adopted_and_strays_released() {
    let mut cluster = Cluster::start();
    let labels = json!({"app": "web"});
    cluster.api.create(PODS, json!({"metadata": {"name": "orphan", "labels": labels}}));
    cluster.api.create(
        SETS,
        json!({"metadata": {"name": "s"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {}}}}),
    );
    cluster.api.until(|api| (api.list(PODS).len() == 2).then_some(())).await;
    let orphan = format!("{PODS}/orphan");
    let owners = cluster.api.get(&orphan).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners[0]["name"], "s");
    cluster.api.merge(&orphan, &json!({"metadata": {"labels": {"app": "other"}}}));
    let released = cluster.api.until(|api| {
        let pod = api.get(&orphan)?;
        let owners = pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
        (owners && api.list(PODS).len() == 3).then_some(pod)
    });
    assert_eq!(released.await["metadata"]["labels"]["app"], "other");
    cluster.stop().await;
}

#[tokio::test]
async fn refused_pods_are_told_and_tried_again() {
    let mut cluster = Cluster::start();
    cluster.api.fail(&http::Method::POST, "/pods", 3, 403);
    cluster.deploy(2, "v1");
    cluster.event("Error creating: as the test wants").await;
    cluster.settle(2, "v1").await;
    let set = cluster.api.list(SETS)[0].clone();
    let failing = |set: &Value| set["status"]["conditions"].as_array().is_some_and(|it| !it.is_empty());
    assert!(!failing(&set), "the condition goes when the cause is gone: {set}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_controllers_does_nothing_twice() {
    let mut cluster = Cluster::start();
    cluster.deploy(3, "v1");
    cluster.settle(3, "v1").await;
    cluster.stop().await;
    let writes = |cluster: &Cluster| {
        let all = cluster.api.requests();
        all.iter().filter(|(key, _)| !key.starts_with("GET")).map(|(_, count)| count).sum::<usize>()
    };
    let before = writes(&cluster);
    let victim = cluster.pods()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.start_controllers();
    cluster.api.delete(&format!("{PODS}/{victim}"), &json!({}));
    cluster.settle(3, "v1").await;
    cluster.stop().await;
    assert!(cluster.pods().len() == 3 && writes(&cluster) - before < 12, "{}", writes(&cluster) - before);
}

#[tokio::test]
async fn every_namespace_gets_its_account_and_ca() {
    let mut cluster = Cluster::start();
    let account = "/api/v1/namespaces/b/serviceaccounts/default";
    let ca = "/api/v1/namespaces/b/configmaps/kube-root-ca.crt";
    cluster.api.create("/api/v1/namespaces", json!({"metadata": {"name": "b"}}));
    cluster.api.until(|api| api.get(account)).await;
    let map = cluster.api.until(|api| api.get(ca)).await;
    assert_eq!(map["data"]["ca.crt"], "PEM");
    cluster.api.delete(account, &json!({}));
    cluster.api.merge(ca, &json!({"data": {"ca.crt": "forged", "more": "x"}}));
    cluster.api.until(|api| api.get(account)).await;
    cluster.api.until(|api| api.get(ca).filter(|map| map["data"] == json!({"ca.crt": "PEM"}))).await;
    cluster.stop().await;
}
