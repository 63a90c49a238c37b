//! Removes tokens whose time is over.

use super::views::Token;
use super::{NAMESPACE, SECRETS};
use crate::run::now;
use crate::shared::Context;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::{CallError, Calls, Change, Deletion, Informer, Key, Store, WorkQueue};
use std::sync::Arc;
use std::time::Duration;

struct Cleaner {
    calls: Calls,
    tokens: Store<Token>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, tokens: &Informer<Token>) {
    let queue = Arc::new(WorkQueue::new());
    let for_tokens = Arc::clone(&queue);
    tokens.on_change(move |change| {
        if let Change::Added(token) | Change::Updated { new: token, .. } = change {
            for_tokens.add(Key::new(NAMESPACE, &token.metadata.name));
        }
    });
    let controller = Cleaner { calls: context.calls.clone(), tokens: tokens.store() };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Cleaner {
    const NAME: &'static str = "token-cleaner";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(token) = self.tokens.get(key) else { return Ok(Requeue::Done) };
        let Some(at) = token.expires() else { return Ok(Requeue::Done) };
        let now = now();
        if at > now {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            return Ok(Requeue::After(wait));
        }
        let options = Deletion::of_uid(&token.metadata.uid);
        match self.calls.delete(&SECRETS.object(NAMESPACE, &key.name), &options).await {
            Err(err) if !err.is_not_found() && !err.is_conflict() => Err(err),
            _ => Ok(Requeue::Done),
        }
    }
}
