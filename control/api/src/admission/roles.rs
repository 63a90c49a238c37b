//! Nobody grants more than they have: roles and bindings are checked against the rules of who writes them.

use async_trait::async_trait;
use serde_json::Value;

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::rbac::{PolicyRule, RoleRef};
use crate::error::Outcome;
use crate::value;

/// What hands out rights in a role: labels decide which aggregating roles get its rules.
const ROLE_FIELDS: [&str; 3] = ["/rules", "/aggregationRule", "/metadata/labels"];

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
        let same = |path: &str| at.old.is_some_and(|old| old.pointer(path) == object.pointer(path));
        let unchanged = |fields: &[&str]| fields.iter().all(|field| same(field));
        let name = value::name(object);
        let checked = match at.resource.info.resource {
            "roles" | "clusterroles" if unchanged(&ROLE_FIELDS) => Ok(()),
            "roles" | "clusterroles" => {
                let rules = granted(object);
                api.authorizer.check_role_write(at.user(), at.namespace, name, &rules)
            }
            "rolebindings" | "clusterrolebindings" if unchanged(&["/roleRef", "/subjects"]) => Ok(()),
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

/// The rights that whoever writes the role hands out.
fn granted(role: &Value) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> =
        role.get("rules").and_then(|rules| serde_json::from_value(rules.clone()).ok()).unwrap_or_default();
    // It can gather anything, now or later.
    if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        rules.extend([PolicyRule::everything(), PolicyRule::every_path()]);
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_aggregating_role_grants_everything() {
        let check = |role: Value, all: bool| {
            let rules = granted(&role);
            assert_eq!(rules.contains(&PolicyRule::everything()), all, "{role}");
            assert_eq!(rules.contains(&PolicyRule::every_path()), all, "{role}");
        };
        check(json!({ "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }] }), false);
        check(json!({ "aggregationRule": null }), false);
        check(json!({ "aggregationRule": { "clusterRoleSelectors": [] } }), true);
    }
}
