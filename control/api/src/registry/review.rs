//! Resources that are answered, not stored: reviews of access and tokens, component statuses.

use coracle_apimachinery::Status;
use serde_json::{Value, json};

use super::Resource;
use super::decode::Expected;
use crate::api::Api;
use crate::auth::{Attributes, UserInfo};
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::value::{self, text};

impl Api {
    /// POST of a review; gives it with its status filled in.
    pub async fn review(&self, call: &Call, resource: &Resource) -> Outcome<Value> {
        let options = call.write_options("CreateOptions")?;
        let mut review = Expected::of(resource).body(call, options.validation)?;
        let status = match resource.info.kind {
            "SelfSubjectReview" => json!({ "userInfo": user_json(&call.user) }),
            "TokenReview" => self.token_review(&review),
            "SelfSubjectAccessReview" => self.access(&call.user, &review)?,
            "SubjectAccessReview" => self.access(&subject(&review), &review)?,
            "LocalSubjectAccessReview" => {
                let inside = text(&review, "/spec/resourceAttributes/namespace");
                if inside != call.info.namespace {
                    return Err(ApiError::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {}",
                        call.info.namespace
                    )));
                }
                self.access(&subject(&review), &review)?
            }
            "SelfSubjectRulesReview" => {
                let namespace = text(&review, "/spec/namespace");
                if namespace.is_empty() {
                    return Err(ApiError::bad_request("no namespace on request"));
                }
                self.rules(&call.user, namespace)
            }
            other => return Err(ApiError::internal(format!("no review of kind {other}"))),
        };
        let meta = value::metadata(&mut review);
        meta.entry("creationTimestamp").or_insert(Value::Null);
        if let Some(map) = review.as_object_mut() {
            map.insert("status".to_owned(), status);
        }
        Ok(review)
    }

    fn token_review(&self, review: &Value) -> Value {
        let token = text(review, "/spec/token");
        let audiences: Vec<String> = review
            .pointer("/spec/audiences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        match self.authenticator.token(token, &audiences, jiff::Timestamp::now().as_second()) {
            Ok(verified) => json!({
                "authenticated": true,
                "user": user_json(&verified.user),
                "audiences": verified.audiences,
            }),
            Err(err) => json!({ "user": {}, "error": format!("[invalid bearer token, {err}]") }),
        }
    }

    fn access(&self, user: &UserInfo, review: &Value) -> Outcome<Value> {
        let resource = review.pointer("/spec/resourceAttributes").filter(|v| v.is_object());
        let path = review.pointer("/spec/nonResourceAttributes").filter(|v| v.is_object());
        let attributes = match (resource, path) {
            (Some(r), None) => Attributes {
                version: text(r, "/version"),
                subresource: text(r, "/subresource"),
                namespace: text(r, "/namespace"),
                name: text(r, "/name"),
                ..Attributes::resource(user, text(r, "/verb"), text(r, "/group"), text(r, "/resource"))
            },
            (None, Some(p)) => Attributes::path(user, text(p, "/verb"), text(p, "/path")),
            _ => {
                let status = Status::failure(
                    422,
                    "Invalid",
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                );
                return Err(status.into());
            }
        };
        let decision = self.authorizer.authorize(&attributes);
        let mut status = json!({ "allowed": decision.is_allowed() });
        if let (Some(map), false) = (status.as_object_mut(), decision.reason().is_empty()) {
            map.insert("reason".to_owned(), decision.reason().into());
        }
        Ok(status)
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Value {
        let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
        for rule in self.authorizer.rules_for(user, namespace) {
            if rule.non_resource_urls.is_empty() {
                let mut shown = json!({
                    "verbs": rule.verbs,
                    "apiGroups": rule.api_groups,
                    "resources": rule.resources,
                });
                if let (Some(map), false) = (shown.as_object_mut(), rule.resource_names.is_empty()) {
                    map.insert("resourceNames".to_owned(), json!(rule.resource_names));
                }
                resource_rules.push(shown);
            } else {
                path_rules.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
            }
        }
        json!({ "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false })
    }

    /// What `kubectl get componentstatuses` shows: all of them live in this process.
    pub fn component_statuses(&self) -> Vec<Value> {
        ["scheduler", "controller-manager", "etcd-0"]
            .into_iter()
            .map(|name| {
                json!({
                    "kind": "ComponentStatus",
                    "apiVersion": "v1",
                    "metadata": { "name": name, "creationTimestamp": null },
                    "conditions": [{ "type": "Healthy", "status": "True", "message": "ok" }],
                })
            })
            .collect()
    }
}

fn user_json(user: &UserInfo) -> Value {
    serde_json::to_value(user).unwrap_or_default()
}

fn subject(review: &Value) -> UserInfo {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|g| g.as_str().map(str::to_owned)).collect()
    };
    let extra = review.pointer("/spec/extra").and_then(Value::as_object);
    UserInfo {
        username: text(review, "/spec/user").to_owned(),
        uid: text(review, "/spec/uid").to_owned(),
        groups: review.pointer("/spec/groups").map(list).unwrap_or_default(),
        extra: extra.into_iter().flatten().map(|(k, v)| (k.clone(), list(v))).collect(),
    }
}
