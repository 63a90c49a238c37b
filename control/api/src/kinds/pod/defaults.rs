//! What is filled into pods and pod templates.

use serde_json::{Map, Value, json};

use crate::kinds::tree::{
    default, default_zero, each, entries, first_of_list, flag, int, is_set, list, text, with,
};

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Into a pod.
pub fn pod(pod: &mut Value) {
    with(pod, "spec", |spec| {
        pod_spec(spec);
        // A grace below zero means the shortest there is.
        if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0) {
            spec["terminationGracePeriodSeconds"] = json!(1);
        }
        for field in ["containers", "initContainers"] {
            each(spec, field, requests_from_limits);
        }
        pod_level_requests(spec);
        default(spec, "enableServiceLinks", true);
        if flag(&spec["hostNetwork"]) {
            for field in ["containers", "initContainers"] {
                each(spec, field, host_ports);
            }
        }
        tidy_service_account(spec);
    });
    with(pod, "status", |status| {
        first_of_list(status, "podIP", "podIPs", Some("ip"));
        first_of_list(status, "hostIP", "hostIPs", Some("ip"));
    });
}

/// Into a pod template.
pub fn template(template: &mut Value) {
    with(template, "spec", |spec| {
        pod_spec(spec);
        tidy_service_account(spec);
    });
}

/// The old name of the field follows the new one, or fills it.
fn tidy_service_account(spec: &mut Value) {
    let name = match text(&spec["serviceAccountName"]) {
        "" => text(&spec["serviceAccount"]),
        name => name,
    };
    if !name.is_empty() {
        let name = Value::from(name);
        spec["serviceAccountName"] = name.clone();
        spec["serviceAccount"] = name;
    }
}

fn pod_spec(spec: &mut Value) {
    default_zero(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", Map::new());
    default_zero(spec, "schedulerName", "default-scheduler");
    each(spec, "volumes", volume);
    for field in CONTAINERS {
        each(spec, field, container);
    }
}

fn container(container: &mut Value) {
    default_zero(container, "terminationMessagePath", "/dev/termination-log");
    default_zero(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(text(&container["image"]));
    default_zero(container, "imagePullPolicy", policy);
    default(container, "resources", Map::new());
    each(container, "ports", |port| default_zero(port, "protocol", "TCP"));
    each(container, "env", |env| {
        with(env, "valueFrom", |from| {
            with(from, "fieldRef", |field| default_zero(field, "apiVersion", "v1"));
            with(from, "fileKeyRef", |file| default(file, "optional", false));
        });
    });
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, field, probe);
    }
    with(container, "lifecycle", |lifecycle| {
        for field in ["postStart", "preStop"] {
            with(lifecycle, field, handler);
        }
    });
}

/// `Always` for the tag `latest`, which an image without tag and digest has too.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.rsplit_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest => "IfNotPresent",
        None => "Always",
    }
}

fn probe(probe: &mut Value) {
    default_zero(probe, "timeoutSeconds", 1);
    default_zero(probe, "periodSeconds", 10);
    default_zero(probe, "successThreshold", 1);
    default_zero(probe, "failureThreshold", 3);
    handler(probe);
    with(probe, "grpc", |grpc| default(grpc, "service", ""));
}

fn handler(handler: &mut Value) {
    with(handler, "httpGet", |http| {
        default_zero(http, "path", "/");
        default_zero(http, "scheme", "HTTP");
    });
}

fn volume(volume: &mut Value) {
    let sources = entries(volume).filter(|(field, value)| *field != "name" && !value.is_null()).count();
    if sources == 0 {
        default(volume, "emptyDir", Map::new());
    }
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        with(volume, field, |source| default(source, "defaultMode", 0o644));
    }
    with(volume, "downwardAPI", downward_items);
    with(volume, "hostPath", |source| default(source, "type", ""));
    with(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            with(source, "serviceAccountToken", |token| default(token, "expirationSeconds", 3600));
            with(source, "downwardAPI", downward_items);
        });
    });
    with(volume, "ephemeral", |ephemeral| {
        with(ephemeral, "volumeClaimTemplate", |claim| {
            with(claim, "spec", |spec| default(spec, "volumeMode", "Filesystem"));
        });
    });
    with(volume, "image", |image| {
        let policy = pull_policy(text(&image["reference"]));
        default_zero(image, "pullPolicy", policy);
    });
    table_defaults(volume);
}

/// Volumes of the cloud and of storage systems, by plain defaults.
fn table_defaults(volume: &mut Value) {
    with(volume, "iscsi", |iscsi| default_zero(iscsi, "iscsiInterface", "default"));
    with(volume, "rbd", |rbd| {
        default_zero(rbd, "pool", "rbd");
        default_zero(rbd, "user", "admin");
        default_zero(rbd, "keyring", "/etc/ceph/keyring");
    });
    with(volume, "azureDisk", |disk| {
        default(disk, "cachingMode", "ReadWrite");
        default(disk, "fsType", "ext4");
        default(disk, "readOnly", false);
        default(disk, "kind", "Shared");
    });
    with(volume, "scaleIO", |scale| {
        default_zero(scale, "storageMode", "ThinProvisioned");
        default_zero(scale, "fsType", "xfs");
    });
}

fn downward_items(source: &mut Value) {
    each(source, "items", |item| with(item, "fieldRef", |field| default_zero(field, "apiVersion", "v1")));
}

fn requests_from_limits(container: &mut Value) {
    with(container, "resources", |resources| {
        let Some(limits) = resources["limits"].as_object().cloned() else { return };
        default(resources, "requests", Map::new());
        for (name, limit) in limits {
            default(&mut resources["requests"], &name, limit);
        }
    });
}

/// Requests of the pod as a whole follow its limits, where no container asks for the resource.
fn pod_level_requests(spec: &mut Value) {
    let asked = |spec: &Value, name: &str| {
        list(&spec["containers"]).iter().any(|container| is_set(&container["resources"]["requests"][name]))
    };
    let limits: Vec<_> =
        entries(&spec["resources"]["limits"]).map(|(name, limit)| (name.to_owned(), limit.clone())).collect();
    for (name, limit) in limits {
        if !asked(spec, &name) {
            with(spec, "resources", |resources| {
                default(resources, "requests", Map::new());
                default(&mut resources["requests"], &name, limit);
            });
        }
    }
}

fn host_ports(container: &mut Value) {
    each(container, "ports", |port| {
        if int(&port["hostPort"]) == 0 {
            port["hostPort"] = json!(int(&port["containerPort"]));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_pod_is_filled_in() {
        let mut object = json!({"spec": {"containers": [{"name": "a", "image": "web"}]}});
        pod(&mut object);
        assert_eq!(
            object,
            json!({"spec": {
                "containers": [{
                    "name": "a", "image": "web", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            }})
        );
        let once = object.clone();
        pod(&mut object);
        assert_eq!(object, once, "twice is once");
    }

    #[test]
    fn an_address_is_also_in_the_list() {
        let mut object = json!({"status": {"podIP": "10.0.0.1", "hostIPs": [{"ip": "10.1.0.1"}]}});
        pod(&mut object);
        assert_eq!(
            object["status"],
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.1.0.1",
                "hostIPs": [{"ip": "10.1.0.1"}]})
        );
    }

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("web:1", "IfNotPresent"),
            ("host:5000/web", "Always"),
            ("host:5000/web:1", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
            ("web:latest@sha256:00", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn parts_are_filled_in() {
        let mut object = json!({"spec": {
            "hostNetwork": true,
            "serviceAccountName": "sa",
            "volumes": [
                {"name": "a"}, {"name": "b", "secret": {}}, {"name": "c", "hostPath": {"path": "/x"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
            "containers": [{
                "image": "a:1",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
        }});
        pod(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["serviceAccount"], "sa");
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(spec["volumes"][2]["hostPath"]["type"], "");
        assert_eq!(
            spec["volumes"][3]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
            3600
        );
        let container = &spec["containers"][0];
        assert_eq!(container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            container["livenessProbe"],
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            })
        );
    }
}
