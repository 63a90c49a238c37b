//! LimitRanger: defaults and bounds of what pods and claims may ask for in a namespace.

use async_trait::async_trait;
use coracle_apimachinery::Quantity;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::error::Outcome;
use crate::registry::Moment;
use crate::value::{self, text};

/// See the module.
pub struct LimitRanger;

#[async_trait]
impl Rule for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation != Operation::Create || !at.is("", "pods") {
            return Ok(());
        }
        for item in items(api, at.namespace).await? {
            if text(&item, "/type") == "Container" {
                set_defaults(object, &item);
            }
        }
        Ok(())
    }

    async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        let (Some(object), true) = (object, at.operation == Operation::Create) else { return Ok(()) };
        if !at.is("", "pods") && !at.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let mut wrong = Vec::new();
        for item in items(api, at.namespace).await? {
            match (text(&item, "/type"), at.resource.info.resource) {
                ("Container", "pods") => {
                    for container in containers(object) {
                        let resources = container.get("resources").unwrap_or(&Value::Null);
                        wrong.extend(complaints(&item, resources, "Container"));
                    }
                }
                ("Pod", "pods") => wrong.extend(complaints(&item, &pod_totals(object), "Pod")),
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    let resources = object.pointer("/spec/resources").unwrap_or(&Value::Null);
                    wrong.extend(complaints(&item, resources, "PersistentVolumeClaim"));
                }
                _ => {}
            }
        }
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(at.forbid(one)),
            many => Err(at.forbid(format!("[{}]", many.join(", ")))),
        }
    }
}

/// Every limit of a namespace.
async fn items(api: &Api, namespace: &str) -> Outcome<Vec<Value>> {
    let ranges = api.registry.core("limitranges")?;
    let mut items = Vec::new();
    for object in api.moment(ranges, &ranges.scope(namespace), Moment::Latest).await?.objects {
        let tree = ranges.view(&object)?;
        items.extend(tree.pointer("/spec/limits").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    Ok(items)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .filter_map(move |list| pod.pointer(&format!("/spec/{list}"))?.as_array())
        .flatten()
}

/// Fills in requests and limits that a container leaves open.
fn set_defaults(pod: &mut Value, item: &Value) {
    let none = Map::new();
    let of = |field: &str| item.get(field).and_then(Value::as_object).unwrap_or(&none);
    for list in ["initContainers", "containers"] {
        let all = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            let limits = container.pointer("/resources/limits").and_then(Value::as_object).cloned();
            let resources = value::child(container, "resources");
            for (name, quantity) in of("default") {
                put_missing(resources, "limits", name, quantity);
            }
            for (name, quantity) in of("defaultRequest") {
                // A limit of its own is the container's request too.
                let own = limits.as_ref().and_then(|limits| limits.get(name)).unwrap_or(quantity);
                put_missing(resources, "requests", name, own);
            }
        }
    }
}

fn put_missing(resources: &mut Map<String, Value>, side: &str, name: &str, quantity: &Value) {
    let side = resources.entry(side).or_insert_with(|| json!({}));
    if let Some(map) = side.as_object_mut() {
        map.entry(name).or_insert_with(|| quantity.clone());
    }
}

fn quantity(value: Option<&Value>) -> Option<Quantity> {
    Quantity::parse(value?.as_str()?).ok()
}

/// Sums over a pod's containers, as one set of resources.
fn pod_totals(pod: &Value) -> Value {
    let mut totals = json!({ "requests": {}, "limits": {} });
    let main = pod.pointer("/spec/containers").and_then(Value::as_array);
    for container in main.into_iter().flatten() {
        for side in ["requests", "limits"] {
            let asked = container.pointer(&format!("/resources/{side}")).and_then(Value::as_object);
            for (name, amount) in asked.into_iter().flatten() {
                let Some(more) = quantity(Some(amount)) else { continue };
                let sum = match quantity(totals[side].get(name)) {
                    Some(so_far) => so_far + more,
                    None => more,
                };
                totals[side][name] = sum.to_string().into();
            }
        }
    }
    totals
}

/// What of these resources lies outside of a limit, in upstream's words.
fn complaints(item: &Value, resources: &Value, kind: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let asked = |side: &str, name: &str| quantity(resources.get(side).and_then(|map| map.get(name)));
    let bounds = |field: &str| item.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, bound) in bounds("min") {
        let Some(least) = quantity(Some(&bound)) else { continue };
        match (asked("requests", &name), asked("limits", &name)) {
            (None, _) => {
                wrong.push(format!("minimum {name} usage per {kind} is {least}.  No request is specified"))
            }
            (Some(request), _) if request < least => {
                wrong.push(format!("minimum {name} usage per {kind} is {least}, but request is {request}"));
            }
            (_, Some(limit)) if limit < least => {
                wrong.push(format!("minimum {name} usage per {kind} is {least}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, bound) in bounds("max") {
        let Some(most) = quantity(Some(&bound)) else { continue };
        match (asked("requests", &name), asked("limits", &name)) {
            (request, None) if kind != "PersistentVolumeClaim" => {
                let _ = request;
                wrong.push(format!("maximum {name} usage per {kind} is {most}.  No limit is specified"));
            }
            (_, Some(limit)) if limit > most => {
                wrong.push(format!("maximum {name} usage per {kind} is {most}, but limit is {limit}"));
            }
            (Some(request), _) if request > most => {
                wrong.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, bound) in bounds("maxLimitRequestRatio") {
        let Some(most) = quantity(Some(&bound)) else { continue };
        let (Some(request), Some(limit)) = (asked("requests", &name), asked("limits", &name)) else {
            wrong.push(format!(
                "{name} max limit to request ratio per {kind} is {most}, but no request is specified or request is 0"
            ));
            continue;
        };
        let (request, limit) = (request.milli_value() as f64, limit.milli_value() as f64);
        if request > 0.0 && limit / request > most.milli_value() as f64 / 1000.0 {
            wrong.push(format!(
                "{name} max limit to request ratio per {kind} is {most}, but provided ratio is {:.6}",
                limit / request
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_is_open() {
        let item = json!({ "default": { "cpu": "1" }, "defaultRequest": { "cpu": "500m", "memory": "1Mi" } });
        let check = |resources: Value, want: Value| {
            let mut pod = json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } });
            set_defaults(&mut pod, &item);
            assert_eq!(pod["spec"]["containers"][0]["resources"], want);
        };
        check(json!({}), json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "500m", "memory": "1Mi" } }));
        check(
            json!({ "limits": { "cpu": "2" } }),
            json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "2", "memory": "1Mi" } }),
        );
    }

    #[test]
    fn bounds_are_kept() {
        let item = json!({ "min": { "cpu": "100m" }, "max": { "cpu": "1" } });
        let check = |request: &str, limit: &str, want: &[&str]| {
            let resources = json!({ "requests": { "cpu": request }, "limits": { "cpu": limit } });
            assert_eq!(complaints(&item, &resources, "Container"), want);
        };
        check("100m", "1", &[]);
        check("50m", "1", &["minimum cpu usage per Container is 100m, but request is 50m"]);
        check("100m", "2", &["maximum cpu usage per Container is 1, but limit is 2"]);
    }
}
