//! Watches: changes as they happen, each in the words of the watcher's selection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_apimachinery::Status;
use coracle_schema::proto;
use coracle_store::Revision;
use futures::StreamExt;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Resource;
use super::options::{ListOptions, Moment};
use super::output::{self, answer};
use super::select::Selection;
use super::table::{self, Include};
use crate::api::Api;
use crate::cache::{Change, Feed, Live, Object, Start, Subscription};
use crate::call::Call;
use crate::error::Outcome;
use crate::http::body::Body;
use crate::http::negotiate::{Form, Media, PLAIN, Show};

/// How often an idle watcher that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Seconds that a watch lasts when the client does not say: this, and up to as much again.
const MIN_TIMEOUT: u64 = 1800;
/// Marks the bookmark after which everything is a change.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What happened, as the watcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Added,
    Modified,
    Deleted,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

struct Watcher {
    feed: Arc<Feed>,
    resource: Arc<Resource>,
    selection: Selection,
    form: Form,
    include: Include,
    columns_sent: bool,
    initial: VecDeque<Arc<Object>>,
    initial_end: Option<Revision>,
    after: Revision,
    subscription: Subscription,
    bookmarks: bool,
    told: Revision,
    ends: Instant,
    next_bookmark: Instant,
    over: bool,
}

impl Api {
    /// GET with `watch`.
    pub async fn watch(&self, call: &Call, resource: &Arc<Resource>) -> Outcome<Response<Body>> {
        let options = ListOptions::parse(&call.query, true)?;
        let selection = Selection::parse(resource, &call.query)?;
        let cache = resource.cache()?;
        self.feed().ensure(cache).await?;
        let everything = match (options.initial, options.moment) {
            (Some(wanted), _) => wanted,
            (None, Moment::Latest | Moment::Any) => true,
            (None, Moment::NotOlderThan(_) | Moment::Exact(_)) => false,
        };
        if !matches!(options.moment, Moment::Any) && everything {
            self.feed().caught_up().await?;
        }
        let after = match options.moment {
            Moment::NotOlderThan(revision) | Moment::Exact(revision) => revision,
            Moment::Latest | Moment::Any => self.feed().applied(),
        };
        let start = if everything { Start::Now } else { Start::After(after) };
        let scope = resource.scope(&call.info.namespace);
        let mut subscription = match cache.subscribe(&scope, start, self.feed().applied()) {
            Ok(subscription) => subscription,
            Err(too_old) => return Ok(error_stream(call, &Status::too_old(after, too_old.oldest))),
        };
        let snapshot_revision = subscription.initial.revision;
        let initial = std::mem::take(&mut subscription.initial.objects).into();
        let seconds = options.timeout.unwrap_or_else(random_timeout);
        let now = Instant::now();
        let watcher = Watcher {
            feed: self.feed().clone(),
            resource: resource.clone(),
            selection,
            form: call.form,
            include: Include::parse(&call.query),
            columns_sent: false,
            initial,
            initial_end: (options.initial == Some(true) && options.bookmarks).then_some(snapshot_revision),
            after: if everything { 0 } else { after },
            subscription,
            bookmarks: options.bookmarks,
            told: 0,
            ends: now + Duration::from_secs(seconds),
            next_bookmark: now + BOOKMARK_EVERY,
            over: false,
        };
        let chunks = futures::stream::unfold(watcher, |mut watcher| async move {
            let chunk = watcher.next().await?;
            Some((chunk, watcher))
        });
        Ok(answer(StatusCode::OK, content_type(call.form.media), Body::Stream(chunks.boxed())))
    }
}

fn content_type(media: Media) -> &'static str {
    match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Media::Json | Media::Yaml => "application/json",
    }
}

fn random_timeout() -> u64 {
    use ring::rand::SecureRandom;
    let mut bytes = [0u8; 2];
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    MIN_TIMEOUT + u64::from(u16::from_le_bytes(bytes)) % MIN_TIMEOUT
}

/// A watch that only says why there is none.
fn error_stream(call: &Call, status: &Status) -> Response<Body> {
    let frame = error_frame(call.form.media, status);
    answer(StatusCode::OK, content_type(call.form.media), Body::full(frame))
}

fn error_frame(media: Media, status: &Status) -> Vec<u8> {
    let value = serde_json::to_value(status).unwrap_or_default();
    if media == Media::Protobuf
        && let Some(ty) = coracle_schema::lookup("", "v1", "Status")
    {
        let envelope = proto::join_envelope("v1", "Status", &proto::encode(&ty, &value), "");
        return proto::watch_frame("ERROR", &envelope);
    }
    frame_json("ERROR", &value)
}

fn frame_json(word: &str, object: &Value) -> Vec<u8> {
    let mut out = json!({ "type": word, "object": object }).to_string().into_bytes();
    out.push(b'\n');
    out
}

impl Watcher {
    /// The next chunk; `None`: the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        loop {
            if let Some(chunk) = self.backlog() {
                return Some(chunk);
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.ends) } else { self.ends };
            tokio::select! {
                biased;
                live = self.subscription.live.recv() => match live {
                    // Cut off: the client watches again from where it is, or lists.
                    None => return None,
                    Some(live) => {
                        if let Some(chunk) = self.burst(live) {
                            return Some(chunk);
                        }
                    }
                },
                () = tokio::time::sleep_until(wake) => {
                    let ended = Instant::now() >= self.ends;
                    self.over = ended;
                    match self.bookmark() {
                        Some(chunk) => return Some(chunk),
                        None if ended => return None,
                        None => {}
                    }
                }
            }
        }
    }

    /// What there was, then what happened before we began to listen, then the mark between past and present.
    fn backlog(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while let Some(object) = self.initial.pop_front() {
            if self.selection.is_empty() || self.selection.matches(&self.resource, &object) {
                out.extend(self.frame(What::Added, &object));
            }
            if out.len() > 64 * 1024 {
                return Some(out.into());
            }
        }
        if let Some(revision) = self.initial_end.take() {
            out.extend(self.bookmark_frame(revision, true));
        }
        while let Some(live) = self.subscription.replay.pop_front() {
            if let Some(chunk) = self.event(&live) {
                out.extend_from_slice(&chunk);
            }
            if out.len() > 64 * 1024 {
                break;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// This change and those that have queued up behind it.
    fn burst(&mut self, first: Arc<Live>) -> Option<Bytes> {
        let first = self.event(&first);
        let Ok(second) = self.subscription.live.try_recv() else { return first };
        let mut out = first.map(|bytes| bytes.to_vec()).unwrap_or_default();
        let mut next = Some(second);
        while let Some(live) = next.take() {
            if let Some(chunk) = self.event(&live) {
                out.extend_from_slice(&chunk);
            }
            if out.len() < 64 * 1024 {
                next = self.subscription.live.try_recv().ok();
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn event(&mut self, live: &Live) -> Option<Bytes> {
        let change = &live.change;
        if change.revision <= self.after {
            return None;
        }
        let (what, object) = self.seen(change)?;
        self.told = change.revision;
        let plain = self.form == PLAIN && self.resource.ops.stored.is_none();
        if !plain {
            return Some(self.frame(what, &object).into());
        }
        // The same bytes serve every watcher.
        let at = what as usize;
        Some(live.frames[at].get_or_init(|| json_frame(&self.resource, what, &object).into()).clone())
    }

    /// What a change is to this watcher, and the object to show.
    fn seen(&self, change: &Change) -> Option<(What, Arc<Object>)> {
        let wanted = |object: &Option<Arc<Object>>| {
            object
                .as_ref()
                .is_some_and(|o| self.selection.is_empty() || self.selection.matches(&self.resource, o))
        };
        let gone = |object: &Arc<Object>| {
            Arc::new(Object {
                key: object.key.clone(),
                revision: change.revision,
                bytes: object.bytes.clone(),
            })
        };
        match (wanted(&change.old), wanted(&change.new), &change.old, &change.new) {
            (false, true, _, Some(new)) => Some((What::Added, new.clone())),
            (true, true, _, Some(new)) => Some((What::Modified, new.clone())),
            (true, false, Some(old), _) => Some((What::Deleted, gone(old))),
            _ => None,
        }
    }

    fn frame(&mut self, what: What, object: &Object) -> Vec<u8> {
        match (self.form.show, self.form.media) {
            (Show::Object, Media::Protobuf) => {
                let mut envelope = Vec::with_capacity(object.bytes.len() + 64);
                if let Err(err) = output::write_envelope(&self.resource, object, &mut envelope) {
                    return error_frame(self.form.media, err.status());
                }
                proto::watch_frame(what.word(), &envelope)
            }
            (Show::Object, _) => json_frame(&self.resource, what, object),
            (show, media) => match self.resource.view(object) {
                Err(err) => error_frame(media, err.status()),
                Ok(tree) => self.shown(what.word(), show, &tree),
            },
        }
    }

    fn shown(&mut self, word: &str, show: Show, tree: &Value) -> Vec<u8> {
        if show == Show::Metadata {
            let partial = table::partial(tree);
            if self.form.media == Media::Protobuf
                && let Some(ty) = coracle_schema::lookup("meta.k8s.io", "v1", "PartialObjectMetadata")
            {
                let raw = proto::encode_with_version(&ty, &partial);
                let envelope = proto::join_envelope("meta.k8s.io/v1", "PartialObjectMetadata", &raw, "");
                return proto::watch_frame(word, &envelope);
            }
            return frame_json(word, &partial);
        }
        let mut shown = json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": { "resourceVersion": tree.pointer("/metadata/resourceVersion") },
            "rows": [table::row(&self.resource, tree, self.include)],
        });
        // Columns go with the first event only.
        let columns = if self.columns_sent { Value::Null } else { table::columns(&self.resource) };
        self.columns_sent = true;
        if let Some(map) = shown.as_object_mut() {
            map.insert("columnDefinitions".to_owned(), columns);
        }
        frame_json(word, &shown)
    }

    fn bookmark(&mut self) -> Option<Bytes> {
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        if !self.bookmarks {
            return None;
        }
        // Read before looking at the queue: all up to here has been queued.
        let revision = self.feed.applied();
        if revision <= self.told || !self.subscription.live.is_empty() {
            return None;
        }
        Some(self.bookmark_frame(revision, false).into())
    }

    fn bookmark_frame(&mut self, revision: Revision, initial_end: bool) -> Vec<u8> {
        self.told = revision;
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end && let Some(map) = metadata.as_object_mut() {
            map.insert("annotations".to_owned(), json!({ INITIAL_END: "true" }));
        }
        let info = self.resource.info;
        let mut tree = json!({ "kind": info.kind, "apiVersion": info.api_version(), "metadata": metadata });
        if self.form.show == Show::Metadata {
            tree = table::partial(&tree);
        }
        match (self.form.show, self.form.media) {
            (Show::Object, Media::Protobuf) => {
                let raw = proto::encode_with_version(&self.resource.ty, &tree);
                let envelope = proto::join_envelope(&info.api_version(), info.kind, &raw, "");
                proto::watch_frame("BOOKMARK", &envelope)
            }
            (Show::Table, _) => frame_json("BOOKMARK", &table_bookmark(&tree)),
            (Show::Metadata, Media::Protobuf) => self.shown("BOOKMARK", Show::Metadata, &tree),
            _ => frame_json("BOOKMARK", &tree),
        }
    }
}

fn table_bookmark(object: &Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": object.pointer("/metadata/resourceVersion") },
        "columnDefinitions": null,
        "rows": [{ "cells": [], "object": object }],
    })
}

fn json_frame(resource: &Resource, what: What, object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.bytes.len() * 3 + 32);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(what.word().as_bytes());
    out.extend_from_slice(br#"","object":"#);
    if let Err(err) = output::write_object(resource, object, &mut out) {
        return error_frame(Media::Json, err.status());
    }
    out.extend_from_slice(b"}\n");
    out
}
