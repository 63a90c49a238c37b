//! Columns and cells that many kinds share.

use coracle_apimachinery::{LabelSelector, duration, time};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Column;
use super::tree::{entries, int, list, text};

/// What is shown for nothing.
pub const NONE: &str = "<none>";
/// What is shown for what should be known and is not.
pub const UNKNOWN: &str = "<unknown>";

const fn column(name: &'static str, kind: &'static str, format: &'static str, priority: i32) -> Column {
    Column { name, kind, format, priority, description: "" }
}

/// The identifying column.
pub const NAME: Column = column("Name", "string", "name", 0);
/// The age of the object.
pub const AGE: Column = col("Age");

/// A column of text.
pub const fn col(name: &'static str) -> Column {
    column(name, "string", "", 0)
}

/// A column of numbers.
pub const fn number(name: &'static str) -> Column {
    column(name, "integer", "", 0)
}

/// A column of booleans.
pub const fn boolean(name: &'static str) -> Column {
    column(name, "boolean", "", 0)
}

/// A column of text that only wide output shows.
pub const fn wide(name: &'static str) -> Column {
    column(name, "string", "", 1)
}

/// The object's name.
pub fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

/// How long ago the object was created.
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// How long ago a timestamp was.
pub fn since(timestamp: &Value, now: Timestamp) -> String {
    match timestamp.as_str().and_then(time::parse) {
        Some(then) => duration::human(time::seconds_between(then, now)),
        None => UNKNOWN.to_owned(),
    }
}

/// A text, or `<none>`.
pub fn or_none(value: &Value) -> Value {
    or(text(value), NONE)
}

/// A text, or something else when it is empty.
pub fn or(value: &str, other: &str) -> Value {
    if value.is_empty() { other.into() } else { value.into() }
}

/// A number that counts as zero when absent.
pub fn count(value: &Value) -> Value {
    int(value).into()
}

/// How many entries a map or list has.
pub fn size(value: &Value) -> usize {
    value.as_object().map_or_else(|| list(value).len(), serde_json::Map::len)
}

/// `k=v,k=v`, or `<none>`.
pub fn labels(labels: &Value) -> Value {
    let all: Vec<_> = entries(labels).map(|(key, value)| format!("{key}={}", text(value))).collect();
    or(&all.join(","), NONE)
}

/// A structured selector as text, or `<none>`.
pub fn selector(selector: &Value) -> Value {
    let compiled = serde_json::from_value::<LabelSelector>(selector.clone())
        .ok()
        .and_then(|selector| selector.compile().ok());
    match compiled {
        Some(selector) => or(&selector.to_string(), NONE),
        None => "<error>".into(),
    }
}

/// Names and images of the containers of a pod spec.
pub fn containers(spec: &Value) -> [Value; 2] {
    let all = |field: &str| {
        let values: Vec<_> =
            list(&spec["containers"]).iter().map(|container| text(&container[field])).collect();
        json!(values.join(","))
    };
    [all("name"), all("image")]
}

/// At most `most` items, then how many more there are.
pub fn some(items: &[String], most: usize) -> String {
    let shown = items[..items.len().min(most)].join(",");
    if items.len() > most { format!("{shown} + {} more...", items.len() - most) } else { shown }
}

/// `address:port`, with brackets around an IPv6 address.
pub fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Addresses of a load balancer status.
pub fn load_balancer(status: &Value) -> String {
    let mut all: Vec<_> = list(&status["loadBalancer"]["ingress"])
        .iter()
        .map(|ingress| [text(&ingress["ip"]), text(&ingress["hostname"])])
        .filter_map(|[ip, host]| [ip, host].into_iter().find(|address| !address.is_empty()))
        .collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}
