//! Single requests with a deadline and an error that says what was tried.

use http::{Method, Request, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::time::Duration;

/// How dependants of a deleted object are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// The object first, dependants later.
    Background,
    /// Dependants first.
    Foreground,
    /// Dependants lose their owner and stay.
    Orphan,
}

/// Options of a DELETE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Only if the object still has this uid.
    pub uid: Option<String>,
    /// Only if the object still has this version.
    pub resource_version: Option<String>,
    /// Grace in seconds; 0 removes at once.
    pub grace_seconds: Option<i64>,
    /// What happens to dependants.
    pub propagation: Option<Propagation>,
}

impl Deletion {
    /// Deletes the object with this uid and no other.
    pub fn of_uid(uid: impl Into<String>) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    fn body(&self) -> serde_json::Value {
        let mut body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(seconds) = self.grace_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = format!("{policy:?}").into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// Why a request brought no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server refused, or could not be reached.
    #[error("{method} {path}")]
    Failed {
        /// HTTP method.
        method: Method,
        /// Path without the query.
        path: String,
        /// The server's Status, or the transport's failure.
        #[source]
        source: Box<kube::Error>,
    },
    /// No whole answer in time.
    #[error("{method} {path}: no answer within {deadline:?}")]
    Deadline {
        /// HTTP method.
        method: Method,
        /// Path without the query.
        path: String,
        /// The time that was allowed.
        deadline: Duration,
    },
    /// The request could not be written down.
    #[error("encode {method} {path}")]
    Encode {
        /// HTTP method.
        method: Method,
        /// Path without the query.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CallError {
    /// The server's Status, if it answered with one.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Failed { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Deadline { .. } | Self::Encode { .. } => None,
        }
    }

    /// The HTTP code of the server's refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether an object of that name is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// Whether somebody else wrote in between (or a precondition does not hold).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && !self.is_already_exists()
    }

    /// Whether the namespace is being deleted, so that nothing new may be made in it.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.code() == Some(403)
            && self.status().and_then(|status| status.details.as_ref()).is_some_and(|details| {
                details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
            })
    }

    /// Whether the same request can work later without a change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.code() {
            Some(code) => code == 409 || code == 429 || code >= 500,
            None => !matches!(self, Self::Encode { .. }),
        }
    }

    /// The server's sentence, or the whole chain when there is none.
    #[must_use]
    pub fn message(&self) -> String {
        self.status().map_or_else(|| report(self), |status| status.message.clone())
    }
}

/// An error and its causes in one line: `what was tried: why: why`.
#[must_use]
pub fn report(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Foreign errors often print their source; say it once.
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Single requests of one component: each has a deadline, writes name their field manager.
#[derive(Clone)]
pub struct Calls {
    client: kube::Client,
    manager: &'static str,
    deadline: Duration,
}

impl Calls {
    /// Requests through `client` as field manager `manager`, each within 30 s.
    #[must_use]
    pub const fn new(client: kube::Client, manager: &'static str) -> Self {
        Self { client, manager, deadline: Duration::from_secs(30) }
    }

    /// The client that carries the requests.
    #[must_use]
    pub const fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Reads one object, or a path such as discovery's.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.send(Method::GET, path, None, Vec::new()).await
    }

    /// Reads one object; `None` when it does not exist.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CallError> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// POSTs `body` to a collection or subresource and decodes the answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        let bytes = encode(&Method::POST, path, body)?;
        self.send(Method::POST, &self.managed(path, ""), Some("application/json"), bytes).await
    }

    /// PUTs a whole object.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn replace<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        let bytes = encode(&Method::PUT, path, body)?;
        self.send(Method::PUT, &self.managed(path, ""), Some("application/json"), bytes).await
    }

    /// Reads the object at `path`, changes it and PUTs it back to `put_path` (the same, or a subresource of it), for
    /// roles that may update but not patch. The version that was read makes a change in between a conflict.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn modify(
        &self,
        path: &str,
        put_path: &str,
        change: impl FnOnce(&mut serde_json::Value) + Send,
    ) -> Result<(), CallError> {
        let mut object: serde_json::Value = self.get(path).await?;
        let before = object.clone();
        change(&mut object);
        if object == before {
            return Ok(());
        }
        let _: serde::de::IgnoredAny = self.replace(put_path, &object).await?;
        Ok(())
    }

    /// JSON merge patch: null removes, lists are replaced.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn merge<T: DeserializeOwned>(
        &self,
        path: &str,
        patch: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        self.patch(path, "application/merge-patch+json", patch).await
    }

    /// Strategic merge patch: lists of keyed items are merged by their keys (built-in kinds only).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn strategic<T: DeserializeOwned>(
        &self,
        path: &str,
        patch: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        self.patch(path, "application/strategic-merge-patch+json", patch).await
    }

    /// JSON patch (RFC 6902): a list of operations, all or none.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn json_patch<T: DeserializeOwned>(
        &self,
        path: &str,
        patch: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        self.patch(path, "application/json-patch+json", patch).await
    }

    /// Server-side apply; `force` takes fields over from other managers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn apply<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &(impl Serialize + ?Sized),
        force: bool,
    ) -> Result<T, CallError> {
        let bytes = encode(&Method::PATCH, path, object)?;
        let full = self.managed(path, if force { "&force=true" } else { "" });
        self.send(Method::PATCH, &full, Some("application/apply-patch+yaml"), bytes).await
    }

    /// Deletes an object; the answer (the object or a Status) is not looked at.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete(&self, path: &str, options: &Deletion) -> Result<(), CallError> {
        let bytes = encode(&Method::DELETE, path, &options.body())?;
        let _: serde::de::IgnoredAny =
            self.send(Method::DELETE, path, Some("application/json"), bytes).await?;
        Ok(())
    }

    async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        media_type: &'static str,
        patch: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        let bytes = encode(&Method::PATCH, path, patch)?;
        self.send(Method::PATCH, &self.managed(path, ""), Some(media_type), bytes).await
    }

    fn managed(&self, path: &str, more: &str) -> String {
        format!("{path}?fieldManager={}{more}", self.manager)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: &str,
        media_type: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<T, CallError> {
        let path = uri.split('?').next().unwrap_or(uri).to_owned();
        let mut request =
            Request::builder().method(&method).uri(uri).header(header::ACCEPT, "application/json");
        if let Some(media_type) = media_type {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let request = request.body(body).map_err(|source| CallError::Encode {
            method: method.clone(),
            path: path.clone(),
            source: source.into(),
        })?;
        match tokio::time::timeout(self.deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(CallError::Failed { method, path, source: Box::new(source) }),
            Err(_) => Err(CallError::Deadline { method, path, deadline: self.deadline }),
        }
    }
}

fn encode(method: &Method, path: &str, body: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(body).map_err(|source| CallError::Encode {
        method: method.clone(),
        path: path.to_owned(),
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_bodies() {
        let check = |deletion: Deletion, want: &str| {
            let mut body = deletion.body();
            body.as_object_mut().unwrap().retain(|key, _| key != "apiVersion" && key != "kind");
            assert_eq!(body.to_string(), want);
        };
        check(Deletion::default(), "{}");
        check(Deletion::of_uid("u"), r#"{"preconditions":{"uid":"u"}}"#);
        check(
            Deletion {
                grace_seconds: Some(0),
                propagation: Some(Propagation::Orphan),
                ..Deletion::default()
            },
            r#"{"gracePeriodSeconds":0,"propagationPolicy":"Orphan"}"#,
        );
    }
}
