//! What every new pod gets: a priority, and tolerations for nodes that fail.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::error::Outcome;
use crate::registry::Moment;
use crate::value::{self, text};

/// Priority: resolves `priorityClassName`.
pub struct Priority;

#[async_trait]
impl Rule for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation != Operation::Create || !at.is("", "pods") {
            return Ok(());
        }
        let Some(classes) = api.registry.find("scheduling.k8s.io", "v1", "priorityclasses").cloned() else {
            return Ok(());
        };
        let named = text(object, "/spec/priorityClassName").to_owned();
        let class = if named.is_empty() {
            let snapshot = api.moment(&classes, "", Moment::Any).await?;
            let mut defaults = Vec::new();
            for object in &snapshot.objects {
                let class = classes.view(object)?;
                if class.get("globalDefault").and_then(Value::as_bool) == Some(true) {
                    defaults.push(class);
                }
            }
            defaults.into_iter().min_by_key(number)
        } else {
            let class = api.registry.value(&classes, "", &named).await?;
            Some(class.ok_or_else(|| at.forbid(format!("no PriorityClass with name {named} was found")))?)
        };
        let priority = class.as_ref().map_or(0, number);
        let given = object.pointer("/spec/priority").and_then(Value::as_i64);
        if given.is_some_and(|given| given != priority) {
            return Err(at.forbid(format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
                 computed {priority} from the given PriorityClass name",
                given.unwrap_or_default()
            )));
        }
        let spec = value::child(object, "spec");
        spec.insert("priority".to_owned(), priority.into());
        let policy = class.as_ref().map_or("", |class| text(class, "/preemptionPolicy"));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
        spec.entry("preemptionPolicy").or_insert_with(|| policy.into());
        if let (true, Some(class)) = (named.is_empty(), &class) {
            spec.insert("priorityClassName".to_owned(), value::name(class).into());
        }
        Ok(())
    }
}

fn number(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

/// DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Rule for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn admit(&self, _: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation == Operation::Delete || !at.is("", "pods") {
            return Ok(());
        }
        let tolerations = value::child(object, "spec").entry("tolerations").or_insert_with(|| json!([]));
        let Some(list) = tolerations.as_array_mut() else { return Ok(()) };
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = list.iter().any(|toleration| {
                let (k, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
                (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                list.push(json!({
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }));
            }
        }
        Ok(())
    }
}
