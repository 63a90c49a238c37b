//! The account `default` in every namespace.

use crate::shared::{Context, Shared, watch};
use crate::views::Namespace;
use crate::work::{self, Reconcile, Requeue};
use coracle_client::views::MetaOnly;
use coracle_client::{CallError, Calls, Change, Key, Params, Resource, Store, WorkQueue};
use serde::de::IgnoredAny;
use serde_json::json;
use std::sync::Arc;

const ACCOUNTS: Resource = Resource::core("serviceaccounts");

struct Accounts {
    calls: Calls,
    namespaces: Store<Namespace>,
    accounts: Store<MetaOnly>,
}

/// Starts the controller.
pub(crate) async fn start(context: &Context, shared: &Shared) {
    let params = Params::<MetaOnly>::all().fields("metadata.name=default").metadata_only();
    let accounts = watch(&context.reader, &ACCOUNTS, params, &context.tracker, &context.token);
    accounts.synced().await;
    let queue = Arc::new(WorkQueue::new());
    let for_namespaces = Arc::clone(&queue);
    shared.namespaces.on_change(move |change| {
        if let Change::Added(namespace) | Change::Updated { new: namespace, .. } = change {
            for_namespaces.add(Key::new("", &namespace.metadata.name));
        }
    });
    let for_accounts = Arc::clone(&queue);
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change {
            for_accounts.add(Key::new("", &account.metadata.namespace));
        }
    });
    let controller = Accounts {
        calls: context.calls.clone(),
        namespaces: shared.namespaces.store(),
        accounts: accounts.store(),
    };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Accounts {
    const NAME: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let wanted = self.namespaces.get(key).is_some_and(|namespace| !namespace.metadata.is_terminating());
        if !wanted || self.accounts.find(&key.name, "default").is_some() {
            return Ok(Requeue::Done);
        }
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": key.name}});
        match self.calls.create::<IgnoredAny>(&ACCOUNTS.collection(&key.name), &account).await {
            Err(err)
                if !(err.is_already_exists() || err.is_namespace_terminating() || err.is_not_found()) =>
            {
                Err(err)
            }
            _ => Ok(Requeue::Done),
        }
    }
}
