//! The chain of authorizers: `system:masters`, nodes, RBAC.

use std::sync::Arc;

use super::index::AuthIndex;
use super::rbac::{self, PolicyRule};
use super::user::{MASTERS, UserInfo};
use super::{bootstrap, node};

/// What is to be decided: a request's user, verb and object.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, special verbs; for other
    /// paths the method in lower case.
    pub verb: &'a str,
    /// Whether the request names a resource; when false only `verb` and `path` count.
    pub resource_request: bool,
    /// API group, empty for core.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Resource in plural.
    pub resource: &'a str,
    /// Subresource or empty.
    pub subresource: &'a str,
    /// Namespace or empty.
    pub namespace: &'a str,
    /// Object name or empty.
    pub name: &'a str,
    /// The URL's path.
    pub path: &'a str,
    /// The raw field selector of a list or watch, or empty.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request for something that is no resource.
    pub fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self { path, ..Self::resource(user, verb, "", "").with_resource_request(false) }
    }

    /// A request for a resource; refine with struct update syntax.
    pub fn resource(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            resource_request: true,
            group,
            version: "",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
        }
    }

    fn with_resource_request(self, resource_request: bool) -> Self {
        Self { resource_request, ..self }
    }

    /// What upstream's Forbidden message says after `forbidden: `.
    pub fn denial(&self, reason: &str) -> String {
        let user = &self.user.username;
        let mut text = if self.resource_request {
            let resource = if self.subresource.is_empty() {
                self.resource.to_owned()
            } else {
                format!("{}/{}", self.resource, self.subresource)
            };
            let place = if self.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{}\"", self.namespace)
            };
            format!(
                "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
                self.verb, self.group
            )
        } else {
            format!("User \"{user}\" cannot {} path \"{}\"", self.verb, self.path)
        };
        if !reason.is_empty() {
            text.push_str(": ");
            text.push_str(reason);
        }
        text
    }
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow {
        /// e.g. `RBAC: allowed by ClusterRoleBinding ...`.
        reason: String,
    },
    /// Nobody allowed it.
    Deny {
        /// Why not, where there is more to say than that nobody allowed it.
        reason: String,
    },
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// The reason given.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow { reason } | Self::Deny { reason } => reason,
        }
    }
}

/// Decides over requests. Clones share the index.
#[derive(Clone)]
pub struct Authorizer {
    index: Arc<AuthIndex>,
    node_rules: Arc<[PolicyRule]>,
}

impl Authorizer {
    /// An authorizer over what `index` knows.
    pub fn new(index: Arc<AuthIndex>) -> Self {
        Self { index, node_rules: bootstrap::node_rules().into() }
    }

    /// Decides.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow { reason: String::new() };
        }
        let mut reasons = Vec::new();
        if let Some(node_name) = attributes.user.node_name() {
            match node::authorize(node_name, attributes, &self.node_rules, &self.index) {
                Ok(()) => return Decision::Allow { reason: String::new() },
                Err(reason) => reasons.push(reason),
            }
        }
        match rbac::authorize(attributes, &self.index) {
            Ok(reason) => return Decision::Allow { reason },
            Err(reason) => reasons.push(reason),
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::Deny { reason: reasons.join(", ") }
    }

    /// The rules that hold for a user in a namespace, for SelfSubjectRulesReview and escalation checks.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        if user.is_in(MASTERS) {
            return vec![PolicyRule::everything(), PolicyRule::every_path()];
        }
        rbac::rules_for(user, namespace, &self.index)
    }

    /// Whether `user` may write a Role (`namespace`) or ClusterRole (empty namespace) with these rules: only rules
    /// that the user holds, unless the user may `escalate`. The error is upstream's text.
    pub fn check_role_write(
        &self,
        user: &UserInfo,
        namespace: &str,
        name: &str,
        rules: &[PolicyRule],
    ) -> Result<(), String> {
        if self.may(user, "escalate", namespace, role_resource(namespace.is_empty()), name) {
            return Ok(());
        }
        rbac::check_held(user, &self.rules_for(user, namespace), rules)
    }

    /// Whether `user` may bind a role in `namespace` (empty: cluster-wide): only one whose rules the user holds,
    /// unless the user may `bind` it.
    pub fn check_binding_write(
        &self,
        user: &UserInfo,
        namespace: &str,
        role: &rbac::RoleRef,
    ) -> Result<(), String> {
        if self.may(user, "bind", namespace, role_resource(role.kind == "ClusterRole"), &role.name) {
            return Ok(());
        }
        let rules = self.index.rules_of(role, namespace)?;
        rbac::check_held(user, &self.rules_for(user, namespace), &rules)
    }

    fn may(&self, user: &UserInfo, verb: &str, namespace: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            namespace,
            name,
            ..Attributes::resource(user, verb, "rbac.authorization.k8s.io", resource)
        };
        self.authorize(&attributes).is_allowed()
    }
}

fn role_resource(cluster: bool) -> &'static str {
    if cluster { "clusterroles" } else { "roles" }
}

#[cfg(test)]
mod tests;
