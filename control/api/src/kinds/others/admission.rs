//! Webhooks and admission policies.

use serde_json::{Map, Value, json};

use crate::kinds::print::{AGE, NAME, NONE, age, col, name, number, or, or_none};
use crate::kinds::tree::{default, default_zero, each, is_set, list, text, with};
use crate::kinds::{KindOps, Printer};

/// Webhooks that only judge.
pub static VALIDATING_WEBHOOKS: KindOps = KindOps {
    default: |object| each(object, "webhooks", default_webhook),
    generation: true,
    unconditional_update: false,
    printer: Some(WEBHOOKS),
    ..KindOps::BASE
};

/// Webhooks that change.
pub static MUTATING_WEBHOOKS: KindOps = KindOps {
    default: |object| {
        each(object, "webhooks", |webhook| {
            default_webhook(webhook);
            default(webhook, "reinvocationPolicy", "Never");
        });
    },
    generation: true,
    unconditional_update: false,
    printer: Some(WEBHOOKS),
    ..KindOps::BASE
};

const WEBHOOKS: Printer = Printer {
    columns: &[NAME, number("Webhooks"), AGE],
    cells: |object, now| vec![name(object), list(&object["webhooks"]).len().into(), age(object, now)],
};

fn default_webhook(webhook: &mut Value) {
    default(webhook, "failurePolicy", "Fail");
    default(webhook, "matchPolicy", "Equivalent");
    default(webhook, "namespaceSelector", Map::new());
    default(webhook, "objectSelector", Map::new());
    default(webhook, "timeoutSeconds", 10);
    each(webhook, "rules", |rule| default(rule, "scope", "*"));
    with(webhook, "clientConfig", |client| with(client, "service", |service| default(service, "port", 443)));
}

/// Policies that only judge.
pub static VALIDATING_POLICY: KindOps = KindOps {
    default: default_policy,
    generation: true,
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, number("Validations"), col("ParamKind"), AGE],
        cells: |object, now| {
            let spec = &object["spec"];
            vec![name(object), list(&spec["validations"]).len().into(), param_kind(spec), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Policies that change.
pub static MUTATING_POLICY: KindOps = KindOps {
    default: |object| {
        default_policy(object);
        with(object, "spec", |spec| default_zero(spec, "reinvocationPolicy", "Never"));
    },
    generation: true,
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, number("Mutations"), col("ParamKind"), AGE],
        cells: |object, now| {
            let spec = &object["spec"];
            vec![name(object), list(&spec["mutations"]).len().into(), param_kind(spec), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Where policies apply.
pub static POLICY_BINDING: KindOps = KindOps {
    default: |object| with(object, "spec", |spec| with(spec, "matchResources", default_match)),
    generation: true,
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, col("PolicyName"), col("ParamRef"), AGE],
        cells: |object, now| {
            let (spec, parameters) = (&object["spec"], &object["spec"]["paramRef"]);
            let shown = match (text(&parameters["namespace"]), text(&parameters["name"])) {
                _ if !is_set(parameters) => json!(NONE),
                ("", name) => or(name, "*"),
                (namespace, name) => {
                    format!("{namespace}/{}", if name.is_empty() { "*" } else { name }).into()
                }
            };
            vec![name(object), or_none(&spec["policyName"]), shown, age(object, now)]
        },
    }),
    ..KindOps::BASE
};

fn default_policy(object: &mut Value) {
    with(object, "spec", |spec| {
        default(spec, "failurePolicy", "Fail");
        with(spec, "matchConstraints", default_match);
    });
}

fn default_match(resources: &mut Value) {
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", Map::new());
    default(resources, "objectSelector", Map::new());
    for field in ["resourceRules", "excludeResourceRules"] {
        each(resources, field, |rule| default(rule, "scope", "*"));
    }
}

fn param_kind(spec: &Value) -> Value {
    let kind = &spec["paramKind"];
    if is_set(kind) {
        format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])).into()
    } else {
        NONE.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_filled_in() {
        let mut object = json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {"name": "s"}}}]});
        (MUTATING_WEBHOOKS.default)(&mut object);
        assert_eq!(
            object["webhooks"][0],
            json!({"rules": [{"scope": "*"}], "clientConfig": {"service": {"name": "s", "port": 443}},
                "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "timeoutSeconds": 10, "reinvocationPolicy": "Never"})
        );
    }
}
