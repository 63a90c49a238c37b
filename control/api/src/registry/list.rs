//! GET of one object and of lists, in pages, at a revision.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use coracle_apimachinery::Status;
use coracle_apimachinery::status::Cause;
use coracle_store::{RangeRequest, Revision, StoreError};
use serde::{Deserialize, Serialize};

use super::Resource;
use super::options::{ListOptions, Moment};
use super::select::Selection;
use crate::api::Api;
use crate::cache::{Object, Snapshot};
use crate::call::Call;
use crate::error::{ApiError, Outcome};

/// How long a read waits for a revision that has not happened yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// One page.
pub struct Page {
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// The revision of the list.
    pub revision: Revision,
    /// Where to go on.
    pub token: Option<String>,
    /// How many there are after this page, when it is known.
    pub remaining: Option<u64>,
}

/// What a continue token says.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: Revision,
    start: String,
}

impl Token {
    fn encode(revision: Revision, last: &str) -> String {
        // The key after the last one shown.
        let token = Self { v: "meta.k8s.io/v1".to_owned(), rv: revision, start: format!("{last}\0") };
        let text = serde_json::to_vec(&token).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    }

    fn decode(text: &str) -> Outcome<Self> {
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|token| token.v == "meta.k8s.io/v1")
            .ok_or_else(|| {
                ApiError::bad_request("continue key is not valid: illegal base64 data or an unknown version")
            })
    }
}

impl Api {
    /// GET of one object.
    pub async fn get(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Arc<Object>> {
        let key = resource.key(&call.info.namespace, &call.info.name);
        self.registry.read(resource, &key).await?.ok_or_else(|| resource.not_found(&call.info.name))
    }

    /// GET of a collection.
    pub async fn list(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Page> {
        let options = ListOptions::parse(&call.query, false)?;
        let selection = Selection::parse(resource, &call.query)?;
        let scope = match selection.name() {
            Some(name) if !resource.info.namespaced || !call.info.namespace.is_empty() => {
                resource.key(&call.info.namespace, name)
            }
            _ => resource.scope(&call.info.namespace),
        };
        let (snapshot, asked) = match &options.token {
            Some(text) => {
                let token = Token::decode(text)?;
                self.moment_again(resource, &scope, &token).await?
            }
            None => (self.moment(resource, &scope, options.moment).await?, None),
        };
        let revision = asked.unwrap_or(snapshot.revision);
        Ok(page(resource, snapshot.objects, revision, &options, &selection))
    }

    /// All objects of a scope at the moment that is wanted.
    pub async fn moment(&self, resource: &Resource, scope: &str, moment: Moment) -> Outcome<Snapshot> {
        let cache = resource.cache()?;
        self.feed().ensure(cache).await?;
        match moment {
            Moment::Any => {}
            Moment::Latest => {
                self.feed().caught_up().await?;
            }
            Moment::NotOlderThan(revision) => self.patiently(revision).await?,
            Moment::Exact(revision) => {
                self.patiently(revision).await?;
                if cache.newest() > revision {
                    return self.past(cache.prefix(), scope, "", revision).await;
                }
                let mut snapshot = cache.snapshot(scope, "", self.feed().applied());
                if snapshot.objects.iter().any(|object| object.revision > revision) {
                    return self.past(cache.prefix(), scope, "", revision).await;
                }
                snapshot.revision = revision;
                return Ok(snapshot);
            }
        }
        Ok(cache.snapshot(scope, "", self.feed().applied()))
    }

    async fn patiently(&self, revision: Revision) -> Outcome<()> {
        if let Ok(reached) = tokio::time::timeout(PATIENCE, self.feed().reached(revision)).await {
            return Ok(reached?);
        }
        let current = self.feed().applied();
        let text = format!("Too large resource version: {revision}, current: {current}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        Err(Status::timeout(&text, 1).with_causes(vec![cause]).into())
    }

    async fn moment_again(
        &self,
        resource: &Resource,
        scope: &str,
        token: &Token,
    ) -> Outcome<(Snapshot, Option<Revision>)> {
        let cache = resource.cache()?;
        self.feed().ensure(cache).await?;
        if !token.start.starts_with(scope) {
            return Err(ApiError::bad_request(format!(
                "invalid continue token: key {:?} is not in the list",
                token.start
            )));
        }
        if token.rv < 0 {
            self.feed().caught_up().await?;
            return Ok((cache.snapshot(scope, &token.start, self.feed().applied()), None));
        }
        let snapshot = cache.snapshot(scope, &token.start, token.rv);
        if snapshot.revision <= token.rv {
            return Ok((snapshot, Some(token.rv)));
        }
        match self.past(cache.prefix(), scope, &token.start, token.rv).await {
            Err(err) if err.code() == 410 => Err(expired_token()),
            past => Ok((past?, Some(token.rv))),
        }
    }

    /// What stood at a past revision, out of the store.
    async fn past(&self, prefix: &str, scope: &str, from: &str, revision: Revision) -> Outcome<Snapshot> {
        let start = if from > scope { from } else { scope };
        let end = {
            let mut end = format!("{prefix}{scope}").into_bytes();
            if let Some(last) = end.last_mut() {
                *last += 1; // keys are ASCII, so this is still text
            }
            String::from_utf8(end).map_err(|_| ApiError::bad_request("invalid namespace"))?
        };
        let request = RangeRequest {
            start: format!("{prefix}{start}"),
            end: Some(end),
            revision: Some(revision),
            ..RangeRequest::default()
        };
        let found = self.feed().store().range(request).await.map_err(|err| match err {
            StoreError::Compacted { .. } => {
                Status::expired("The resourceVersion for the provided list is too old.").into()
            }
            other => ApiError::from(other),
        })?;
        let objects = found.kvs.into_iter().filter_map(|kv| {
            let key = kv.key.strip_prefix(prefix)?.into();
            Some(Arc::new(Object { key, revision: kv.mod_revision, bytes: kv.value }))
        });
        Ok(Snapshot { objects: objects.collect(), revision })
    }
}

fn expired_token() -> ApiError {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter.",
    )
    .into()
}

fn page(
    resource: &Resource,
    all: Vec<Arc<Object>>,
    revision: Revision,
    options: &ListOptions,
    selection: &Selection,
) -> Page {
    let exact_name = selection.name().is_some();
    let mut wanted = all.into_iter();
    let mut objects: Vec<Arc<Object>> = Vec::new();
    while options.limit == 0 || objects.len() < options.limit {
        let Some(object) = wanted.next() else { break };
        if selection.is_empty() || selection.matches(resource, &object) {
            objects.push(object);
        }
    }
    let left = wanted.len() as u64;
    let token = (left > 0 && !exact_name)
        .then(|| objects.last().map(|last| Token::encode(revision, &last.key)))
        .flatten();
    let remaining = token.as_ref().filter(|_| selection.is_empty()).map(|_| left);
    Page { objects, revision, token, remaining }
}
