//! NamespaceLifecycle: nothing is created where there is no namespace or one that is going away; the first namespaces
//! stay.

use async_trait::async_trait;
use coracle_apimachinery::Status;
use coracle_apimachinery::status::Cause;
use serde_json::Value;

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::error::Outcome;
use crate::value;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// See the module.
pub struct NamespaceLifecycle;

#[async_trait]
impl Rule for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, _: &mut Value) -> Outcome<()> {
        if at.operation != Operation::Create || !at.resource.info.namespaced {
            return Ok(());
        }
        let namespaces = api.registry.core("namespaces")?;
        let Some(namespace) = api.registry.read(namespaces, at.namespace).await? else {
            return Err(Status::not_found("", "namespaces", at.namespace).into());
        };
        if namespaces.codec.field(&namespace, "status.phase") != "Terminating" {
            return Ok(());
        }
        let tree = namespaces.view(&namespace)?;
        if !value::is_deleting(&tree) {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            at.namespace
        );
        let cause = Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {} is being terminated", at.namespace),
            field: "metadata.namespace".to_owned(),
        };
        let status = Status::forbidden(at.resource.info.group, at.resource.info.resource, at.name, why);
        Err(status.with_causes(vec![cause]).into())
    }

    async fn check(&self, _: &Api, at: &Attributes<'_>, _: Option<&Value>) -> Outcome<()> {
        if at.operation == Operation::Delete && at.is("", "namespaces") && IMMORTAL.contains(&at.name) {
            return Err(at.forbid("this namespace may not be deleted"));
        }
        Ok(())
    }
}
