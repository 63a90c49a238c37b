//! Autoscalers and disruption budgets.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::print::{AGE, NAME, age, col, count, name, number};
use crate::kinds::tree::{default, int, is_set, list, text, with};
use crate::kinds::{Column, KindOps, Printer, Stored};

const COLUMNS: &[Column] =
    &[NAME, col("Reference"), col("Targets"), col("MinPods"), col("MaxPods"), col("Replicas"), AGE];

/// Autoscalers.
pub static AUTOSCALER: KindOps = KindOps {
    default: |object| {
        with(object, "spec", |spec| {
            default(spec, "minReplicas", 1);
            if !is_set(&spec["metrics"]) {
                spec["metrics"] = cpu_metric(80);
            }
        });
    },
    printer: Some(Printer { columns: COLUMNS, cells: autoscaler_cells }),
    ..KindOps::BASE
};

/// Autoscalers as they were: one number for the processor.
pub static AUTOSCALER_V1: KindOps = KindOps {
    default: |object| with(object, "spec", |spec| default(spec, "minReplicas", 1)),
    printer: Some(Printer {
        columns: COLUMNS,
        cells: |object, now| {
            let mut object = object.clone();
            to_v2(&mut object);
            autoscaler_cells(&object, now)
        },
    }),
    stored: Some(Stored { group: "autoscaling", version: "v2", to: to_v2, from: to_v1 }),
    ..KindOps::BASE
};

/// Disruption budgets.
pub static DISRUPTION_BUDGET: KindOps = KindOps {
    generation: true,
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, col("Min Available"), col("Max Unavailable"), number("Allowed Disruptions"), AGE],
        cells: |object, now| {
            let (spec, status) = (&object["spec"], &object["status"]);
            vec![
                name(object),
                either(&spec["minAvailable"]),
                either(&spec["maxUnavailable"]),
                count(&status["disruptionsAllowed"]),
                age(object, now),
            ]
        },
    }),
    ..KindOps::BASE
};

/// A number or a percentage.
fn either(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn cpu_metric(percent: i64) -> Value {
    json!([{
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    }])
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn to_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v2".into();
    with(object, "spec", |spec| {
        if let Some(percent) = crate::kinds::tree::remove(spec, "targetCPUUtilizationPercentage") {
            spec["metrics"] = cpu_metric(int(&percent));
        }
    });
    with(object, "status", |status| {
        if let Some(percent) = crate::kinds::tree::remove(status, "currentCPUUtilizationPercentage") {
            status["currentMetrics"] = json!([{
                "type": "Resource",
                "resource": {"name": "cpu", "current": {"averageUtilization": percent}},
            }]);
        }
    });
}

/// What the old form cannot say is left out of it.
fn to_v1(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v1".into();
    with(object, "spec", |spec| {
        let metrics = crate::kinds::tree::remove(spec, "metrics").unwrap_or_default();
        crate::kinds::tree::remove(spec, "behavior");
        if let Some(metric) = list(&metrics).iter().find(|metric| is_cpu(metric)) {
            let target = &metric["resource"]["target"]["averageUtilization"];
            default(spec, "targetCPUUtilizationPercentage", target.clone());
        }
    });
    with(object, "status", |status| {
        let metrics = crate::kinds::tree::remove(status, "currentMetrics").unwrap_or_default();
        crate::kinds::tree::remove(status, "conditions");
        if let Some(metric) = list(&metrics).iter().find(|metric| is_cpu(metric)) {
            let current = &metric["resource"]["current"]["averageUtilization"];
            default(status, "currentCPUUtilizationPercentage", current.clone());
        }
    });
}

fn target(object: &Value, metric: &Value) -> String {
    let resource = &metric["resource"];
    let name = text(&resource["name"]);
    if metric["type"] != "Resource" {
        return "<unknown>/<auto>".to_owned();
    }
    let current =
        list(&object["status"]["currentMetrics"]).iter().find(|now| now["resource"]["name"] == name);
    let current =
        |field: &str| current.map(|now| &now["resource"]["current"][field]).filter(|value| is_set(value));
    let shown = |value: Option<&Value>, unit: &str| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => format!("{value}{unit}"),
        None => "<unknown>".to_owned(),
    };
    let target = &resource["target"];
    if is_set(&target["averageValue"]) {
        return format!("{name}: {}/{}", shown(current("averageValue"), ""), text(&target["averageValue"]));
    }
    let wanted = Some(&target["averageUtilization"]).filter(|value| is_set(value));
    let wanted = if wanted.is_some() { shown(wanted, "%") } else { "<auto>".to_owned() };
    format!("{name}: {}/{wanted}", shown(current("averageUtilization"), "%"))
}

fn autoscaler_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, reference) = (&object["spec"], &object["spec"]["scaleTargetRef"]);
    let targets: Vec<_> = list(&spec["metrics"]).iter().map(|metric| target(object, metric)).collect();
    let fewest = match &spec["minReplicas"] {
        Value::Null => "<unset>".into(),
        value => value.clone(),
    };
    vec![
        name(object),
        format!("{}/{}", text(&reference["kind"]), text(&reference["name"])).into(),
        (if targets.is_empty() { "<none>".to_owned() } else { targets.join(", ") }).into(),
        fewest,
        count(&spec["maxReplicas"]),
        count(&object["status"]["currentReplicas"]),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_form() {
        let old = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"}, "spec": {"maxReplicas": 5,
            "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "targetCPUUtilizationPercentage": 70}});
        let mut object = old.clone();
        to_v2(&mut object);
        assert_eq!(
            json!(autoscaler_cells(&object, Timestamp::UNIX_EPOCH)),
            json!(["a", "Deployment/web", "cpu: <unknown>/70%", 1, 5, 0, "<unknown>"])
        );
        to_v1(&mut object);
        assert_eq!(object, old);
    }
}
