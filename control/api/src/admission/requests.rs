//! CertificateSigningRequests say who asks, and only the server knows that.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::UserInfo;
use crate::error::Outcome;
use crate::value;

/// Writes the caller into a new request.
pub struct Requestor;

#[async_trait]
impl Rule for Requestor {
    fn name(&self) -> &'static str {
        "CertificateRequestor"
    }

    async fn admit(&self, _: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation == Operation::Create && at.is("certificates.k8s.io", "certificatesigningrequests") {
            stamp(at.user(), object);
        }
        Ok(())
    }
}

/// Whatever the client said about the caller is replaced, also by nothing.
fn stamp(user: &UserInfo, request: &mut Value) {
    let spec = value::child(request, "spec");
    value::put(spec, "username", Some(json!(user.username)));
    value::put(spec, "uid", (!user.uid.is_empty()).then(|| json!(user.uid)));
    value::put(spec, "groups", (!user.groups.is_empty()).then(|| json!(user.groups)));
    value::put(spec, "extra", (!user.extra.is_empty()).then(|| json!(user.extra)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_named_and_nobody_else() {
        let check = |user: UserInfo, want: Value| {
            let mut request = json!({ "spec": {
                "request": "pem", "username": "system:admin", "uid": "1", "groups": ["system:masters"],
                "extra": { "scopes": ["all"] },
            } });
            stamp(&user, &mut request);
            assert_eq!(request, json!({ "spec": want }));
        };
        let bob = UserInfo { username: "bob".to_owned(), ..UserInfo::default() };
        check(bob.clone(), json!({ "request": "pem", "username": "bob" }));
        let grouped = UserInfo { uid: "7".to_owned(), groups: vec!["team".to_owned()], ..bob };
        check(grouped, json!({ "request": "pem", "username": "bob", "uid": "7", "groups": ["team"] }));
    }
}
