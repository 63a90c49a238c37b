//! Admission: an ordered list of rules that may change or refuse a write after authorization and before storage.

mod absent; // kinds without effect on this server are refused
mod classes; // DefaultStorageClass, DefaultIngressClass, RuntimeClass
mod lifecycle; // NamespaceLifecycle
mod limits; // LimitRanger
mod nodes; // NodeRestriction, TaintNodesByCondition
mod pods; // Priority, DefaultTolerationSeconds
mod requests; // certificates: who asks, who may approve and sign
mod roles; // no one grants more than they have
mod service_account; // ServiceAccount

use async_trait::async_trait;
use serde_json::Value;

use crate::api::Api;
use crate::auth::UserInfo;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::registry::Resource;
use coracle_apimachinery::Status;

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a subresource's action (binding, eviction, token).
    Create,
    /// A changed object.
    Update,
    /// An object goes.
    Delete,
}

/// A write as rules see it.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// What it does.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a Resource,
    /// Which subresource, or empty.
    pub subresource: &'a str,
    /// Where, or empty.
    pub namespace: &'a str,
    /// Name, empty while it is being generated.
    pub name: &'a str,
    /// The request.
    pub call: &'a Call,
    /// The object before an update or deletion.
    pub old: Option<&'a Value>,
    /// Nothing will be written.
    pub dry_run: bool,
}

impl Attributes<'_> {
    /// Who writes.
    pub fn user(&self) -> &UserInfo {
        &self.call.user
    }

    /// Whether the write is on this resource itself.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.info.group == group
            && self.resource.info.resource == resource
            && self.subresource.is_empty()
    }

    /// Refuses it.
    pub fn forbid(&self, why: impl std::fmt::Display) -> ApiError {
        Status::forbidden(self.resource.info.group, self.resource.info.resource, self.name, why).into()
    }
}

/// One rule.
#[async_trait]
pub trait Rule: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// May change the object.
    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        let _ = (api, at, object);
        Ok(())
    }

    /// May refuse; `object` is `None` for deletions.
    async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        let _ = (api, at, object);
        Ok(())
    }
}

/// The rules, in order.
pub struct Chain(Vec<Box<dyn Rule>>);

impl Chain {
    /// Those that are on by default.
    pub fn standard() -> Self {
        Self(vec![
            Box::new(lifecycle::NamespaceLifecycle),
            Box::new(limits::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(nodes::NodeRestriction),
            Box::new(nodes::TaintNodesByCondition),
            Box::new(pods::Priority),
            Box::new(pods::DefaultTolerationSeconds),
            Box::new(classes::DefaultStorageClass),
            Box::new(classes::RuntimeClass),
            Box::new(classes::DefaultIngressClass),
            Box::new(requests::Requestor),
            Box::new(requests::CertificateApproval),
            Box::new(requests::CertificateSigning),
            Box::new(requests::CertificateSubjectRestriction),
            Box::new(roles::NoEscalation),
            Box::new(absent::Absent),
        ])
    }

    /// Lets every rule change the object.
    pub async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        for rule in &self.0 {
            rule.admit(api, at, object).await?;
        }
        Ok(())
    }

    /// Asks every rule.
    pub async fn check(&self, api: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        for rule in &self.0 {
            rule.check(api, at, object).await?;
        }
        Ok(())
    }
}
