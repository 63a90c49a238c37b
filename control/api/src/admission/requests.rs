//! CertificateSigningRequests: only the server knows who asks; who approves or signs must be allowed to, signer by
//! signer.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::{Attributes as Question, UserInfo};
use crate::error::Outcome;
use crate::kinds::certificate;
use crate::value::{self, text};

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

const GROUP: &str = "certificates.k8s.io";

/// Whether the write is an update of this part of a request.
fn updates(at: &Attributes<'_>, subresource: &str) -> bool {
    let info = at.resource.info;
    at.operation == Operation::Update
        && (info.group, info.resource, at.subresource) == (GROUP, "certificatesigningrequests", subresource)
}

/// Whether the user may do `verb` for the signer: by its name, or for all of its domain.
fn may(api: &Api, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    [signer, &domain].into_iter().filter(|it| !it.is_empty()).any(|name| {
        let question = Question { name, version: "*", ..Question::resource(user, verb, GROUP, "signers") };
        api.authorizer.authorize(&question).is_allowed()
    })
}

/// CertificateApproval: who approves or denies needs `approve` on the signer.
pub struct CertificateApproval;

#[async_trait]
impl Rule for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn check(&self, api: &Api, at: &Attributes<'_>, _: Option<&Value>) -> Outcome<()> {
        let (true, Some(old)) = (updates(at, "approval"), at.old) else { return Ok(()) };
        let signer = text(old, "/spec/signerName");
        if may(api, at.user(), "approve", signer) {
            return Ok(());
        }
        Err(at.forbid(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

/// CertificateSigning: who issues, or says that it failed, needs `sign` on the signer.
pub struct CertificateSigning;

#[async_trait]
impl Rule for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        let (true, Some(old), Some(new)) = (updates(at, "status"), at.old, object) else { return Ok(()) };
        let same = |path: &str| new.pointer(path) == old.pointer(path);
        let signer = text(old, "/spec/signerName");
        if (same("/status/certificate") && same("/status/conditions")) || may(api, at.user(), "sign", signer)
        {
            return Ok(());
        }
        Err(at.forbid(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// CertificateSubjectRestriction: no certificate makes its holder one of `system:masters`.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Rule for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn check(&self, _: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
        let new = at.operation == Operation::Create && at.is(GROUP, "certificatesigningrequests");
        let Some(object) = object.filter(|it| new && text(it, "/spec/signerName") == SIGNER) else {
            return Ok(());
        };
        let masters = certificate::organizations(text(object, "/spec/request"));
        if masters.iter().any(|it| it == "system:masters") {
            return Err(at.forbid(format!("use of {SIGNER} signer with system:masters group is not allowed")));
        }
        Ok(())
    }
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
