//! Services and what stands behind them.

mod print; // tables
mod validate; // checks

use serde_json::{Map, Value, json};

use super::tree::{default, default_zero, each, int, is_set, list, text, with};
use super::{KindOps, Printer};

/// Services.
pub static SERVICE: KindOps = KindOps {
    default: default_service,
    validate_name: coracle_apimachinery::names::dns1035_label,
    validate_create: validate::create,
    prepare_update: keep_allocated,
    validate_update: validate::update,
    create_on_update: true,
    fields: &["spec.clusterIP", "spec.type"],
    printer: Some(Printer { columns: print::SERVICE, cells: print::service }),
    ..KindOps::BASE
};

/// Endpoints.
pub static ENDPOINTS: KindOps = KindOps {
    default: |object| {
        each(object, "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
    },
    validate_create: validate::endpoints,
    validate_update: |new, _| validate::endpoints(new),
    create_on_update: true,
    printer: Some(Printer { columns: print::ENDPOINTS, cells: print::endpoints }),
    ..KindOps::BASE
};

/// Endpoint slices.
pub static ENDPOINT_SLICE: KindOps = KindOps {
    default: |object| {
        each(object, "ports", |port| {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        });
    },
    validate_create: validate::slice,
    validate_update: validate::slice_update,
    generation: true,
    printer: Some(Printer { columns: print::SLICE, cells: print::slice }),
    ..KindOps::BASE
};

fn default_service(object: &mut Value) {
    with(object, "spec", |spec| {
        default_zero(spec, "sessionAffinity", "None");
        match text(&spec["sessionAffinity"]) {
            "ClientIP" if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() => {
                spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
            }
            "None" => {
                super::tree::remove(spec, "sessionAffinityConfig");
            }
            _ => {}
        }
        default_zero(spec, "type", "ClusterIP");
        each(spec, "ports", |port| {
            default_zero(port, "protocol", "TCP");
            let number = int(&port["port"]);
            default_zero(port, "targetPort", number);
        });
        let kind = text(&spec["type"]).to_owned();
        let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            || (kind == "ClusterIP" && is_set(&spec["externalIPs"]));
        if outside {
            default_zero(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
    });
    if object["status"].is_null() {
        default(object, "status", Map::new());
    }
    with(object, "status", |status| default(status, "loadBalancer", Map::new()));
}

fn has_address(spec: &Value) -> bool {
    text(&spec["type"]) != "ExternalName"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(text(&spec["type"]), "NodePort" | "LoadBalancer")
}

/// Addresses and ports that a client left out of an update stay what they are.
fn keep_allocated(new: &mut Value, old: &Value) {
    let was = &old["spec"];
    with(new, "spec", |spec| {
        if has_address(spec) && has_address(was) {
            let asked = spec["clusterIP"].clone();
            if is_set(&asked) && asked != was["clusterIP"] && spec["clusterIPs"] == was["clusterIPs"] {
                // Only one of the two was changed: it is meant, and refused later if it may not change.
                spec["clusterIPs"] = json!([asked]);
            }
            if !is_set(&spec["clusterIP"]) && !is_set(&spec["clusterIPs"]) {
                for field in ["clusterIP", "clusterIPs"] {
                    super::tree::copy(spec, was, field);
                }
            }
            for field in ["ipFamilies", "ipFamilyPolicy"] {
                if spec[field].is_null() {
                    super::tree::copy(spec, was, field);
                }
            }
        }
        if has_node_ports(spec) && has_node_ports(was) {
            each(spec, "ports", |port| {
                let same =
                    |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
                if int(&port["nodePort"]) == 0
                    && let Some(other) = list(&was["ports"]).iter().find(same)
                {
                    super::tree::copy(port, other, "nodePort");
                }
            });
            if int(&spec["healthCheckNodePort"]) == 0 {
                super::tree::copy(spec, was, "healthCheckNodePort");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_service_is_filled_in() {
        let mut object = json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
        default_service(&mut object);
        assert_eq!(
            object["spec"],
            json!({
                "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}], "selector": {"a": "b"},
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            })
        );
        let mut object = json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}});
        default_service(&mut object);
        assert_eq!(object["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(object["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_000}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"},
            {"port": 81, "protocol": "TCP"}]}});
        keep_allocated(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.1");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_000);
        assert!(new["spec"]["ports"][1]["nodePort"].is_null());
        let mut other =
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}});
        keep_allocated(&mut other, &old);
        assert_eq!(other["spec"]["clusterIPs"], json!(["10.0.0.2"]));
        let mut outside = json!({"spec": {"type": "ExternalName"}});
        keep_allocated(&mut outside, &old);
        assert!(outside["spec"]["clusterIP"].is_null());
    }
}
