//! Nobody grants more than they have: roles and bindings are checked against the rules of who writes them.

use async_trait::async_trait;
use serde_json::Value;

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::rbac::{PolicyRule, RoleRef};
use crate::error::Outcome;
use crate::value;

/// The escalation checks of RBAC.
pub struct NoEscalation;

#[async_trait]
impl Rule for NoEscalation {
    fn name(&self) -> &'static str {
        "RBAC"
    }

    async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        let (Some(object), "rbac.authorization.k8s.io") = (object, at.resource.info.group) else {
            return Ok(());
        };
        if at.operation == Operation::Delete {
            return Ok(());
        }
        let unchanged = |field: &str| at.old.is_some_and(|old| old.get(field) == object.get(field));
        let name = value::name(object);
        let checked = match at.resource.info.resource {
            "roles" | "clusterroles" if unchanged("rules") => Ok(()),
            "roles" | "clusterroles" => {
                let rules: Vec<PolicyRule> = object
                    .get("rules")
                    .and_then(|rules| serde_json::from_value(rules.clone()).ok())
                    .unwrap_or_default();
                api.authorizer.check_role_write(at.user(), at.namespace, name, &rules)
            }
            "rolebindings" | "clusterrolebindings" if unchanged("roleRef") && unchanged("subjects") => Ok(()),
            "rolebindings" | "clusterrolebindings" => {
                let role: RoleRef = object
                    .get("roleRef")
                    .and_then(|role| serde_json::from_value(role.clone()).ok())
                    .unwrap_or_default();
                api.authorizer.check_binding_write(at.user(), at.namespace, &role)
            }
            _ => Ok(()),
        };
        checked.map_err(|why| at.forbid(why))
    }
}
