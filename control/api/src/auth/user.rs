//! Identities.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who sends a request, in the words of the TokenReview and CertificateSigningRequest kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// e.g. `system:node:a` or a certificate's common name.
    pub username: String,
    /// Empty when the credential has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the credential says, e.g. the pod a token is bound to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of every authenticated user.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of callers without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of nodes.
pub const NODES: &str = "system:nodes";

impl UserInfo {
    /// An authenticated user of these groups.
    pub fn authenticated(username: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { username: username.into(), groups, ..Self::default() }
    }

    /// A member of `system:masters`, for components that live in the server's own process.
    pub fn master(username: &str) -> Self {
        Self::authenticated(username, [MASTERS.to_owned()])
    }

    /// A caller without credentials.
    pub fn anonymous() -> Self {
        Self {
            username: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The identity of a service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let user = Self::authenticated(format!("system:serviceaccount:{namespace}:{name}"), groups);
        Self { uid: uid.to_owned(), ..user }
    }

    /// Whether the user is in the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|it| it == group)
    }

    /// The node's name, when the user is a node.
    pub fn node_name(&self) -> Option<&str> {
        if !self.is_in(NODES) {
            return None;
        }
        self.username.strip_prefix("system:node:").filter(|name| !name.is_empty())
    }
}
