//! How long one pod takes through each codec. Run it optimised:
//! `cargo run -p coracle-schema --example speed --config 'profile.dev.opt-level=3'`.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::hint::black_box;
use std::time::Instant;

use coracle_schema::json::{self, FieldValidation};
use coracle_schema::proto::{self, Splice};
use coracle_schema::{apply, lookup};
use serde_json::{Value, json};

const ROUNDS: u32 = 20_000;

fn main() {
    let Some(ty) = lookup("", "v1", "Pod") else { return };
    let text = pod().to_string();
    let Ok(decoded) = json::decode(&ty, text.as_bytes(), FieldValidation::Strict) else { return };
    let value = decoded.value;
    let bytes = proto::encode(&ty, &value);
    println!("{} bytes of JSON, {} of protobuf", text.len(), bytes.len());
    time("JSON to Value, strict", || json::decode(&ty, text.as_bytes(), FieldValidation::Strict));
    time("JSON to Value, unguided", || serde_json::from_str::<Value>(&text));
    time("Value to protobuf", || proto::encode(&ty, &value));
    time("protobuf to Value", || proto::decode(&ty, &bytes));
    let mut out = Vec::with_capacity(8192);
    let splice = Splice { api_version: "v1", kind: "Pod", resource_version: "123456" };
    time("protobuf to JSON", || {
        out.clear();
        proto::write_json(&ty, &bytes, splice, &mut out)
    });
    time("spec.nodeName out of protobuf", || {
        proto::read_str(&ty, &bytes, "spec.nodeName").map(|it| it.len())
    });
    time("labels out of protobuf", || proto::labels(&bytes).count());
    let mut changed = value.clone();
    changed["status"]["phase"] = json!("Failed");
    time("managedFields of an update", || {
        let mut new = changed.clone();
        apply::track_update(
            &ty,
            Some(&value),
            &mut new,
            "kubelet",
            "Update",
            "status",
            "2024-01-01T00:00:00Z",
        );
        new
    });
}

fn time<T>(what: &str, mut run: impl FnMut() -> T) {
    for _ in 0..ROUNDS / 10 {
        black_box(run());
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(run());
    }
    println!("{what:>32}: {:>7.2} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/app:1.2.3", "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/app", "--listen=:8080"], "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
            "env": [{"name": "A", "value": "b"}, {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1",
                "fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "250m", "memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10,
                "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/token", "readOnly": true}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
    };
    let condition =
        |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": "2024-05-06T07:08:09Z"});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-7c5ddbdf54-x2x8p", "generateName": "web-7c5ddbdf54-", "namespace": "default",
            "uid": "0f2f3a5e-56d4-4a5f-9f0d-3f3d5f6b7c8d", "creationTimestamp": "2024-05-06T07:08:09Z",
            "labels": {"app": "web", "pod-template-hash": "7c5ddbdf54", "tier": "front"},
            "annotations": {"example.com/checksum": "d41d8cd98f00b204e9800998ecf8427e"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7c5ddbdf54",
                "uid": "1f2f3a5e-56d4-4a5f-9f0d-3f3d5f6b7c8d", "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"containers": [container("app"), container("side")], "nodeName": "node-1", "restartPolicy": "Always",
            "serviceAccountName": "default", "serviceAccount": "default", "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "priority": 0,
            "enableServiceLinks": true, "securityContext": {},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}],
            "volumes": [{"name": "token", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken":
                {"expirationSeconds": 3607, "path": "token"}}]}}]},
        "status": {"phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "hostIP": "10.0.0.1",
            "qosClass": "Burstable", "startTime": "2024-05-06T07:08:09Z",
            "conditions": (["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition)),
            "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "started": true,
                "image": "registry.example/app:1.2.3", "imageID": "sha256:1234", "containerID": "containerd://abcd",
                "state": {"running": {"startedAt": "2024-05-06T07:08:10Z"}}}]}})
}
