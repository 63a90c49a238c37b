//! The answer to a call that failed (and to deletions that did not): `metav1.Status`, with the sentences that
//! clients and their users know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{self, FieldError, quote};

/// The outcome of an API call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `Status`.
    #[serde(default)]
    pub kind: String,
    /// Always `v1`.
    #[serde(default)]
    pub api_version: String,
    /// Empty list metadata, as the wire form has it.
    #[serde(default)]
    pub metadata: Metadata,
    /// `Success` or `Failure`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// More for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: i32,
}

/// List metadata of a Status: always empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {}

/// What a Status is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind or its resource, whichever the caller used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One per thing that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cause {
    /// For programs, e.g. `FieldValueRequired`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Where in the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape serde asks for
fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// `pods`, or `deployments.apps`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// The sentence behind `... is forbidden:` when a user has no permission.
#[derive(Debug, Clone, Copy)]
pub struct Denied<'a> {
    /// Who asks.
    pub user: &'a str,
    /// For what.
    pub verb: &'a str,
    /// On which API group.
    pub group: &'a str,
    /// On which resource, `pods` or `pods/log`.
    pub resource: &'a str,
    /// In which namespace; empty at the cluster scope.
    pub namespace: &'a str,
}

impl fmt::Display for Denied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, verb, group, resource, namespace } = self;
        write!(
            f,
            "User {} cannot {verb} resource {} in API group {} ",
            quote(user),
            quote(resource),
            quote(group)
        )?;
        if namespace.is_empty() {
            f.write_str("at the cluster scope")
        } else {
            write!(f, "in the namespace {}", quote(namespace))
        }
    }
}

impl Status {
    /// A failure with this code, reason and message.
    #[must_use]
    pub fn failure(code: i32, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: Metadata {},
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    /// A deletion that is done: what was deleted.
    #[must_use]
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        let mut status = Self::failure(200, "", "").about(group, resource, name);
        "Success".clone_into(&mut status.status);
        status.code = 0;
        status.details_mut().uid = uid.to_owned();
        status
    }

    fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_with(Box::default)
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details_mut();
        (details.group, details.kind, details.name) = (group.to_owned(), kind.to_owned(), name.to_owned());
        self
    }

    /// The same, with causes.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details_mut().causes = causes;
        self
    }

    /// The same, asking to try again after so long.
    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.details_mut().retry_after_seconds = seconds;
        self
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(group, resource), quote(name));
        Self::failure(404, "NotFound", message).about(group, resource, name)
    }

    /// 404: no such path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
            .with_causes(Vec::new())
    }

    /// 409: the name is taken.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(group, resource), quote(name));
        Self::failure(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409: no free name was found for a `generateName`.
    #[must_use]
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource),
            quote(name)
        );
        Self::failure(409, "AlreadyExists", message).about(group, resource, name).retry_after(1)
    }

    /// 409: for `reason` the operation cannot be carried out.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, reason: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {reason}",
            qualified(group, resource),
            quote(name)
        );
        Self::failure(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: somebody else changed the object in between.
    #[must_use]
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let reason =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, reason)
    }

    /// 422: the object is not valid, and why.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut message = format!("{} {} is invalid", qualified(group, kind), quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&field::aggregate(errors));
        }
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.message(),
                field: error.field.clone(),
            })
            .collect();
        Self::failure(422, "Invalid", message).about(group, kind, name).with_causes(causes)
    }

    /// 403: not allowed, and why. An empty name means the whole resource.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} {} is forbidden: {why}", qualified(group, resource), quote(name)),
        };
        Self::failure(403, "Forbidden", message).about(group, resource, name)
    }

    /// 403: a path that is no resource.
    #[must_use]
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        Self::forbidden("", "", "", format_args!("User {} cannot {verb} path {}", quote(user), quote(path)))
    }

    /// 401: nobody knows who asks.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 400: the request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 405: the resource knows no such verb.
    #[must_use]
    pub fn method_not_allowed(group: &str, resource: &str, action: &str) -> Self {
        let kind = quote(&qualified(group, resource));
        Self::failure(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind {kind}"),
        )
        .about(group, resource, "")
    }

    /// 405: the path knows no such HTTP method.
    #[must_use]
    pub fn method_not_supported() -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_causes(Vec::new())
    }

    /// 410: what was asked for is gone for good.
    #[must_use]
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 410: the revision asked for is too old.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410 for a watch that starts at a revision that is no longer kept.
    #[must_use]
    pub fn too_old(asked: i64, oldest: i64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 429: later, please.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 504: it took too long.
    #[must_use]
    pub fn timeout(message: &str, retry_after_seconds: i32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 500: it could not be completed in time; try again.
    #[must_use]
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after_seconds: i32) -> Self {
        let resource_name = qualified(group, resource);
        let message = format!(
            "The {operation} operation against {resource_name} could not be completed at this time, please try again."
        );
        Self::failure(500, "ServerTimeout", message)
            .about(group, resource, "")
            .retry_after(retry_after_seconds)
    }

    /// 500: our fault.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}"))
            .with_causes(vec![cause])
    }

    /// 503: not now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 413: too big.
    #[must_use]
    pub fn request_entity_too_large(message: &str) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 415: a body in a format nobody reads here.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 406: an answer in none of the formats asked for.
    #[must_use]
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// 507: the store has no room.
    #[must_use]
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::failure(507, "InternalError", message)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn sentences() {
        let denied = Denied { user: "u", verb: "list", group: "", resource: "pods", namespace: "default" };
        let at_cluster = Denied { user: "u", verb: "get", group: "apps", resource: "x", namespace: "" };
        for (status, code, reason, message) in [
            (Status::not_found("", "pods", "x"), 404, "NotFound", "pods \"x\" not found"),
            (
                Status::not_found("apps", "deployments", "x"),
                404,
                "NotFound",
                "deployments.apps \"x\" not found",
            ),
            (Status::already_exists("", "pods", "x"), 409, "AlreadyExists", "pods \"x\" already exists"),
            (
                Status::modified("", "pods", "x"),
                409,
                "Conflict",
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your \
                 changes to the latest version and try again",
            ),
            (
                Status::forbidden("", "pods", "", denied),
                403,
                "Forbidden",
                "pods is forbidden: User \"u\" cannot list resource \"pods\" in API group \"\" in the namespace \
                 \"default\"",
            ),
            (
                Status::forbidden("apps", "x", "y", at_cluster),
                403,
                "Forbidden",
                "x.apps \"y\" is forbidden: User \"u\" cannot get resource \"x\" in API group \"apps\" at the \
                 cluster scope",
            ),
            (
                Status::forbidden_path("u", "get", "/metrics"),
                403,
                "Forbidden",
                "forbidden: User \"u\" cannot get path \"/metrics\"",
            ),
            (
                Status::method_not_allowed("", "pods", "patch"),
                405,
                "MethodNotAllowed",
                "patch is not supported on resources of kind \"pods\"",
            ),
            (Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
            (Status::too_old(1, 5), 410, "Expired", "too old resource version: 1 (5)"),
        ] {
            assert_eq!(
                (status.code, status.reason.as_str(), status.message.as_str()),
                (code, reason, message)
            );
        }
    }

    #[test]
    fn invalid_lists_its_causes() {
        let spec = Path::new("spec");
        let one = [FieldError::required(&spec.child("a"), "")];
        let two = [one[0].clone(), FieldError::invalid(&spec.child("b"), -1, "bad"), one[0].clone()];
        assert_eq!(
            Status::invalid("apps", "Deployment", "x", &one).message,
            "Deployment.apps \"x\" is invalid: spec.a: Required value"
        );
        let status = Status::invalid("", "Pod", "x", &two);
        assert_eq!(
            status.message,
            "Pod \"x\" is invalid: [spec.a: Required value, spec.b: Invalid value: -1: bad]"
        );
        assert_eq!(status.details.unwrap().causes[1].reason, "FieldValueInvalid");
    }

    #[test]
    fn wire_form() {
        let text = serde_json::to_string(&Status::not_found("", "pods", "x")).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#
        );
        let back: Status = serde_json::from_str(&text).unwrap();
        assert_eq!(back, Status::not_found("", "pods", "x"));
    }
}
