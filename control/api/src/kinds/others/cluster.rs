//! Priority and runtime classes, flow control, dynamic resources.

use serde_json::{Value, json};

use crate::kinds::print::{AGE, NAME, NONE, age, boolean, col, count, name, number, or};
use crate::kinds::tree::{default, default_zero, flag, int, is_set, list, text, with};
use crate::kinds::{KindOps, Printer};

/// Priority classes.
pub static PRIORITY_CLASS: KindOps = KindOps {
    default: |object| default(object, "preemptionPolicy", "PreemptLowerPriority"),
    validate_update: |new, old| {
        let path = coracle_apimachinery::Path::new("value");
        if int(&new["value"]) == int(&old["value"]) {
            return Vec::new();
        }
        vec![coracle_apimachinery::FieldError::invalid(&path, int(&new["value"]), "field is immutable")]
    },
    generation: true,
    printer: Some(Printer {
        columns: &[NAME, number("Value"), boolean("Global-Default"), AGE, col("PreemptionPolicy")],
        cells: |object, now| {
            vec![
                name(object),
                count(&object["value"]),
                flag(&object["globalDefault"]).into(),
                age(object, now),
                text(&object["preemptionPolicy"]).into(),
            ]
        },
    }),
    ..KindOps::BASE
};

/// Runtime classes.
pub static RUNTIME_CLASS: KindOps = KindOps {
    validate_create: |object| {
        let (path, handler) = (coracle_apimachinery::Path::new("handler"), text(&object["handler"]));
        let bad = coracle_apimachinery::names::dns1123_label(handler);
        bad.into_iter().map(|why| coracle_apimachinery::FieldError::invalid(&path, handler, why)).collect()
    },
    validate_update: |new, old| {
        let mut errors = crate::kinds::validate::Errors::default();
        errors.immutable(&coracle_apimachinery::Path::new("handler"), &new["handler"], &old["handler"]);
        errors.0
    },
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, col("Handler"), AGE],
        cells: |object, now| vec![name(object), text(&object["handler"]).into(), age(object, now)],
    }),
    ..KindOps::BASE
};

/// Flow schemas.
pub static FLOW_SCHEMA: KindOps = KindOps {
    default: |object| with(object, "spec", |spec| default_zero(spec, "matchingPrecedence", 1000)),
    generation: true,
    printer: Some(Printer {
        columns: &[
            NAME,
            col("PriorityLevel"),
            col("MatchingPrecedence"),
            col("DistinguisherMethod"),
            AGE,
            col("MissingPL"),
        ],
        cells: |object, now| {
            let spec = &object["spec"];
            let missing = list(&object["status"]["conditions"]).iter().find(|c| c["type"] == "Dangling");
            vec![
                name(object),
                text(&spec["priorityLevelConfiguration"]["name"]).into(),
                int(&spec["matchingPrecedence"]).into(),
                or(text(&spec["distinguisherMethod"]["type"]), NONE),
                age(object, now),
                or(missing.map_or("", |condition| text(&condition["status"])), "?"),
            ]
        },
    }),
    ..KindOps::BASE
};

/// Priority levels.
pub static PRIORITY_LEVEL: KindOps = KindOps {
    default: |object| {
        with(object, "spec", |spec| {
            for field in ["limited", "exempt"] {
                with(spec, field, |level| {
                    default(level, "nominalConcurrencyShares", if field == "limited" { 30 } else { 0 });
                    default(level, "lendablePercent", 0);
                    with(level, "limitResponse", |response| {
                        with(response, "queuing", |queuing| {
                            default_zero(queuing, "queues", 64);
                            default_zero(queuing, "handSize", 8);
                            default_zero(queuing, "queueLengthLimit", 50);
                        });
                    });
                });
            }
        });
    },
    generation: true,
    printer: Some(Printer {
        columns: &[
            NAME,
            col("Type"),
            col("NominalConcurrencyShares"),
            col("Queues"),
            col("HandSize"),
            col("QueueLengthLimit"),
            AGE,
        ],
        cells: |object, now| {
            let limited = &object["spec"]["limited"];
            let queuing = &limited["limitResponse"]["queuing"];
            let shown = |value: &Value| if value.is_null() { json!(NONE) } else { value.clone() };
            vec![
                name(object),
                text(&object["spec"]["type"]).into(),
                shown(&limited["nominalConcurrencyShares"]),
                shown(&queuing["queues"]),
                shown(&queuing["handSize"]),
                shown(&queuing["queueLengthLimit"]),
                age(object, now),
            ]
        },
    }),
    ..KindOps::BASE
};

/// Groups that other servers serve.
pub static API_SERVICE: KindOps = KindOps {
    default: |object| {
        with(object, "spec", |spec| with(spec, "service", |service| default(service, "port", 443)));
    },
    unconditional_update: false,
    printer: Some(Printer {
        columns: &[NAME, col("Service"), col("Available"), AGE],
        cells: |object, now| {
            let service = &object["spec"]["service"];
            let shown = if is_set(service) {
                format!("{}/{}", text(&service["namespace"]), text(&service["name"]))
            } else {
                "Local".to_owned()
            };
            let state = list(&object["status"]["conditions"]).iter().find(|c| c["type"] == "Available");
            let available = match state {
                Some(condition) if condition["status"] == "True" => "True".to_owned(),
                Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
                None => "Unknown".to_owned(),
            };
            vec![name(object), shown.into(), available.into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Claims of dynamic resources.
pub static RESOURCE_CLAIM: KindOps = KindOps {
    printer: Some(Printer {
        columns: &[NAME, col("State"), AGE],
        cells: |object, now| {
            let status = &object["status"];
            let mut words = Vec::new();
            if object["metadata"]["deletionTimestamp"].is_string() {
                words.push("deleted");
            }
            match (is_set(&status["allocation"]), is_set(&status["reservedFor"])) {
                (false, _) => words.push("pending"),
                (true, false) => words.push("allocated"),
                (true, true) => words.extend(["allocated", "reserved"]),
            }
            vec![name(object), words.join(",").into(), age(object, now)]
        },
    }),
    ..KindOps::BASE
};

/// Slices of dynamic resources.
pub static RESOURCE_SLICE: KindOps = KindOps {
    generation: true,
    fields: &["spec.nodeName", "spec.driver"],
    printer: Some(Printer {
        columns: &[NAME, col("Node"), col("Driver"), col("Pool"), AGE],
        cells: |object, now| {
            let spec = &object["spec"];
            let node = if flag(&spec["allNodes"]) { "<all>" } else { text(&spec["nodeName"]) };
            vec![
                name(object),
                or(node, "<unset>"),
                text(&spec["driver"]).into(),
                text(&spec["pool"]["name"]).into(),
                age(object, now),
            ]
        },
    }),
    ..KindOps::BASE
};
