//! The task of an informer: waits, requests, and applies what the machine says.

use super::machine::{Input, State, step};
use super::store::Shared;
use super::wire::{self, WireError};
use super::{Endpoint, Params};
use crate::backoff::random_unit;
use crate::{Backoff, Object, report};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) struct Follower<K> {
    endpoint: Endpoint,
    params: Params<K>,
    shared: Arc<Shared<K>>,
    synced: watch::Sender<bool>,
    backoff: Backoff,
}

impl<K: Object> Follower<K> {
    pub(super) fn new(
        endpoint: Endpoint,
        params: Params<K>,
        shared: Arc<Shared<K>>,
        synced: watch::Sender<bool>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        Self { endpoint, params, shared, synced, backoff }
    }

    /// Follows the collection for ever.
    pub(super) async fn run(mut self) {
        let mut state = State::start();
        loop {
            state = match &state {
                State::Listing { token, .. } => {
                    let answer = wire::page(&self.endpoint, &self.params, token.as_deref()).await;
                    let input = answer.unwrap_or_else(|err| self.failed("list", &err));
                    self.advance(state, input).await
                }
                State::Watching { version } => {
                    let version = version.clone();
                    self.watch(state, &version).await
                }
            };
        }
    }

    async fn watch(&mut self, mut state: State<K>, version: &str) -> State<K> {
        // Spread over 5 to 10 minutes, so that watches of many clients do not end together.
        let lifetime = Duration::from_secs_f64(300.0 * (1.0 + random_unit()));
        let opened = Instant::now();
        let mut stream = match wire::open(&self.endpoint, &self.params, version, lifetime).await {
            Ok(stream) => stream,
            Err(err) => {
                let input = self.failed("watch", &err);
                return self.advance(state, input).await;
            }
        };
        loop {
            let input = match stream.next(&self.params).await {
                Ok(Some(frame)) => Input::Frame(frame),
                Ok(None) => Input::Ended { lasted: opened.elapsed() },
                Err(err) => self.failed("watch", &err),
            };
            let goes_on = matches!(input, Input::Frame(_));
            state = self.advance(state, input).await;
            if !goes_on {
                return state;
            }
        }
    }

    async fn advance(&mut self, state: State<K>, input: Input<K>) -> State<K> {
        let next = step(state, input, &mut self.backoff);
        if self.shared.apply(next.effect) {
            self.synced.send_replace(true);
        }
        if next.pause > Duration::ZERO {
            tokio::time::sleep(next.pause).await;
        }
        next.state
    }

    fn failed(&self, doing: &'static str, err: &WireError) -> Input<K> {
        if err.is_gone() {
            tracing::debug!(path = %self.endpoint.path, doing, "version is gone, listing anew");
            return Input::Gone;
        }
        tracing::warn!(path = %self.endpoint.path, doing, error = %report(err), "informer failed, will retry");
        Input::Failed
    }
}
