//! Ingresses, network policies and the address book.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::print::{AGE, NAME, age, col, load_balancer, name, or, or_none, selector, some};
use crate::kinds::tree::{default, default_zero, each, is_set, list, text, with};
use crate::kinds::{KindOps, Printer};

/// Ingresses.
pub static INGRESS: KindOps = KindOps {
    generation: true,
    printer: Some(Printer {
        columns: &[NAME, col("Class"), col("Hosts"), col("Address"), col("Ports"), AGE],
        cells: ingress_cells,
    }),
    ..KindOps::BASE
};

/// Ingress classes.
pub static INGRESS_CLASS: KindOps = KindOps {
    default: |object| {
        with(object, "spec", |spec| {
            with(spec, "parameters", |parameters| default(parameters, "scope", "Cluster"))
        });
    },
    generation: true,
    printer: Some(Printer {
        columns: &[NAME, col("Controller"), col("Parameters"), AGE],
        cells: |object, now| {
            let (spec, parameters) = (&object["spec"], &object["spec"]["parameters"]);
            let kind = match (text(&parameters["kind"]), text(&parameters["apiGroup"])) {
                (kind, "") => kind.to_owned(),
                (kind, group) => format!("{kind}.{group}"),
            };
            let shown = if is_set(parameters) {
                format!("{kind}/{}", text(&parameters["name"]))
            } else {
                String::new()
            };
            vec![name(object), text(&spec["controller"]).into(), or(&shown, "<none>"), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Network policies.
pub static NETWORK_POLICY: KindOps = KindOps {
    default: default_policy,
    generation: true,
    printer: Some(Printer {
        columns: &[NAME, col("Pod-Selector"), AGE],
        cells: |object, now| vec![name(object), selector(&object["spec"]["podSelector"]), age(object, now)],
    }),
    ..KindOps::BASE
};

/// Addresses in use.
pub static IP_ADDRESS: KindOps = KindOps {
    validate_name: coracle_apimachinery::names::ip,
    printer: Some(Printer {
        columns: &[NAME, col("ParentRef")],
        cells: |object, _| {
            let parent = &object["spec"]["parentRef"];
            let path = ["group", "resource", "namespace", "name"].map(|field| text(&parent[field]));
            let path: Vec<_> = path.into_iter().filter(|part| !part.is_empty()).collect();
            vec![name(object), path.join("/").into()]
        },
    }),
    ..KindOps::BASE
};

/// Address blocks of services.
pub static SERVICE_CIDR: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, col("CIDRs"), AGE],
        cells: |object, now| {
            let blocks: Vec<_> = list(&object["spec"]["cidrs"]).iter().map(text).collect();
            vec![name(object), blocks.join(",").into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

fn default_policy(object: &mut Value) {
    with(object, "spec", |spec| {
        default(spec, "podSelector", json!({}));
        if !is_set(&spec["policyTypes"]) {
            let outgoing = is_set(&spec["egress"]);
            spec["policyTypes"] = if outgoing { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        }
        for direction in ["ingress", "egress"] {
            each(spec, direction, |rule| each(rule, "ports", |port| default_zero(port, "protocol", "TCP")));
        }
    });
}

fn ingress_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let hosts: Vec<_> = list(&spec["rules"])
        .iter()
        .map(|rule| text(&rule["host"]).to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let class = match object["metadata"]["annotations"]["kubernetes.io/ingress.class"].as_str() {
        Some(class) if text(&spec["ingressClassName"]).is_empty() => class.into(),
        _ => or_none(&spec["ingressClassName"]),
    };
    vec![
        name(object),
        class,
        or(&some(&hosts, 3), "*"),
        load_balancer(&object["status"]).into(),
        (if is_set(&spec["tls"]) { "80, 443" } else { "80" }).into(),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_what_they_are_about() {
        let mut object = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
        default_policy(&mut object);
        assert_eq!(object["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(object["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn ingresses() {
        let object = json!({"metadata": {"name": "i"}, "spec": {"ingressClassName": "c", "tls": [{}],
            "rules": [{"host": "a"}, {"host": "b"}]}, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
        assert_eq!(
            json!(ingress_cells(&object, Timestamp::UNIX_EPOCH)),
            json!(["i", "c", "a,b", "10.0.0.1", "80, 443", "<unknown>"])
        );
    }
}
