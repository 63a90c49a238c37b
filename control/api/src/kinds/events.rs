//! Events: one kind of object under two names.

use coracle_apimachinery::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::print::{NAME, col, name, since, wide};
use super::tree::{is_set, remove, text};
use super::{Column, KindOps, Printer, Stored};

/// Events of the core group.
pub static EVENT: KindOps = KindOps {
    validate_create: validate_event,
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    printer: Some(EVENT_PRINTER),
    create_on_update: true,
    ..KindOps::BASE
};

/// Events of their own group: the same objects under other names.
pub static EVENTS_EVENT: KindOps = KindOps {
    validate_create: |_| Vec::new(),
    fields: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ],
    printer: Some(Printer {
        cells: |object, now| {
            let mut object = object.clone();
            to_core_event(&mut object);
            event_cells(&object, now)
        },
        ..EVENT_PRINTER
    }),
    create_on_update: true,
    stored: Some(Stored { group: "", version: "v1", to: to_core_event, from: from_core_event }),
    ..KindOps::BASE
};

const EVENT_PRINTER: Printer = Printer {
    columns: &[
        col("Last Seen"),
        col("Type"),
        col("Reason"),
        col("Object"),
        wide("Subobject"),
        wide("Source"),
        col("Message"),
        wide("First Seen"),
        wide("Count"),
        Column { priority: 1, ..NAME },
    ],
    cells: event_cells,
};

/// Field names of an event: in its own group, in the core group.
const EVENT_NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    for (from, to) in pairs {
        if let Some(value) = remove(object, from)
            && let Some(map) = object.as_object_mut()
        {
            map.insert(to.to_owned(), value);
        }
    }
}

fn to_core_event(object: &mut Value) {
    rename(object, EVENT_NAMES.into_iter());
    object["apiVersion"] = "v1".into();
}

fn from_core_event(object: &mut Value) {
    rename(object, EVENT_NAMES.into_iter().map(|(own, core)| (core, own)));
    object["apiVersion"] = "events.k8s.io/v1".into();
}

fn validate_event(object: &Value) -> Vec<FieldError> {
    let about = text(&object["involvedObject"]["namespace"]);
    let namespace = text(&object["metadata"]["namespace"]);
    let path = Path::new("involvedObject").child("namespace");
    let fits = about == namespace || (about.is_empty() && matches!(namespace, "" | "default"));
    if fits {
        return Vec::new();
    }
    vec![FieldError::invalid(&path, about, "does not match event.namespace")]
}

fn event_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let series = &object["series"];
    let first = match &object["firstTimestamp"] {
        Value::Null => &object["eventTime"],
        first => first,
    };
    let last = match (&series["lastObservedTime"], &object["lastTimestamp"]) {
        (Value::Null, Value::Null) => first,
        (Value::Null, last) => last,
        (observed, _) => observed,
    };
    let count = match (series["count"].as_i64(), object["count"].as_i64()) {
        (Some(count), _) => count,
        (None, Some(count)) if count > 0 => count,
        _ => 1,
    };
    let about = &object["involvedObject"];
    let kind = text(&about["kind"]).to_lowercase();
    let object_name = match text(&about["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |a: &Value, b: &Value| if is_set(a) { text(a).to_owned() } else { text(b).to_owned() };
    let component = either(&object["source"]["component"], &object["reportingComponent"]);
    let host = either(&object["source"]["host"], &object["reportingInstance"]);
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        since(last, now).into(),
        text(&object["type"]).into(),
        text(&object["reason"]).into(),
        object_name.into(),
        text(&about["fieldPath"]).into(),
        source.into(),
        text(&object["message"]).trim().into(),
        since(first, now).into(),
        count.into(),
        name(object),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(cells: &[Value]) -> String {
        cells.iter().map(|c| c.as_str().map_or(c.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn events_have_two_faces() {
        let core = json!({"apiVersion": "v1", "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "count": 2,
            "reason": "R", "type": "Normal", "metadata": {"name": "e"}, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z"});
        let mut own = core.clone();
        from_core_event(&mut own);
        assert_eq!(
            (&own["note"], &own["regarding"]["name"], &own["message"]),
            (&json!("m"), &json!("p"), &Value::Null)
        );
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let expected = "60s Normal R pod/p  kubelet, n m 2m 2 e";
        assert_eq!(row(&event_cells(&core, now)), expected);
        assert_eq!(row(&(EVENTS_EVENT.printer.unwrap().cells)(&own, now)), expected);
        to_core_event(&mut own);
        assert_eq!(own, core);
    }

    #[test]
    fn events_live_where_their_object_lives() {
        let check = |about: &str, namespace: &str, fine: bool| {
            let event = json!({"involvedObject": {"namespace": about}, "metadata": {"namespace": namespace}});
            assert_eq!(validate_event(&event).is_empty(), fine, "{about} in {namespace}");
        };
        check("a", "a", true);
        check("", "default", true);
        check("a", "b", false);
        check("", "b", false);
    }
}
