//! Kinds whose effect this server does not have yet are refused by name, rather than accepted and ignored: a quota or
//! a webhook that does nothing is worse than none.

use async_trait::async_trait;
use serde_json::Value;

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::error::Outcome;

/// See the module.
pub struct Absent;

fn what_is_missing(group: &str, resource: &str, name: &str) -> Option<&'static str> {
    match (group, resource) {
        ("", "resourcequotas") => Some("quotas are not enforced"),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => Some("admission webhooks are not called"),
        ("admissionregistration.k8s.io", _) => Some("admission policies are not evaluated"),
        ("apiextensions.k8s.io", _) => Some("custom resources are not served"),
        ("apiregistration.k8s.io", _) => Some("requests are not passed on to other API servers"),
        ("flowcontrol.apiserver.k8s.io", _) => Some("requests are not ranked"),
        ("networking.k8s.io", "servicecidrs") if name != "kubernetes" => {
            Some("addresses of Services come from the ranges that the server was started with")
        }
        _ => None,
    }
}

#[async_trait]
impl Rule for Absent {
    fn name(&self) -> &'static str {
        "Absent"
    }

    async fn check(&self, _: &Api, at: &Attributes<'_>, object: Option<&Value>) -> Outcome<()> {
        if at.operation != Operation::Create || !at.subresource.is_empty() {
            return Ok(());
        }
        let name = object.map_or(at.name, crate::value::name);
        match what_is_missing(at.resource.info.group, at.resource.info.resource, name) {
            Some(what) => Err(at.forbid(format!("not available on this server yet: {what}"))),
            None => Ok(()),
        }
    }
}
