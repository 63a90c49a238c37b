//! What every [`Store`] must hold. Each case gets a fresh, empty store.

use std::future::Future;

use bytes::Bytes;
use futures::StreamExt;

use crate::{
    Compare, Event, EventBatch, KeyValue, LeaseId, Op, RangeRequest, Revision, Store, StoreError, Txn,
    TxnOutcome, WatchStream,
};

/// Runs every case; panics at the first that does not hold.
pub async fn suite<S: Store + 'static, F: Future<Output = S>>(fresh: impl Fn() -> F) {
    revisions_count_commits(fresh().await).await;
    conditions_decide(fresh().await).await;
    a_transaction_is_one_revision(fresh().await).await;
    ranges_are_ordered_and_paged(fresh().await).await;
    the_past_can_be_read(fresh().await).await;
    watches_join_without_gap(fresh().await).await;
    watches_see_only_their_prefix(fresh().await).await;
    compaction_forgets_what_was_overwritten(fresh().await).await;
    compaction_keeps_watches_true(fresh().await).await;
    leases_take_their_keys_along(fresh().await).await;
    leases_end(fresh().await).await;
}

/// A put of a short value.
#[must_use]
pub fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), lease: 0 }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.to_owned() }
}

fn equals(key: &str, revision: Revision) -> Compare {
    Compare::ModRevision { key: key.to_owned(), equals: revision }
}

/// Writes without conditions; gives the revision.
pub async fn write(store: &impl Store, ops: Vec<Op>) -> Revision {
    match store.txn(Txn { compares: Vec::new(), ops }).await.expect("write") {
        TxnOutcome::Committed { revision } => revision,
        conflict @ TxnOutcome::Conflict { .. } => panic!("no conditions, yet {conflict:?}"),
    }
}

/// All keys from `a` up to `z`.
fn all() -> RangeRequest {
    RangeRequest { start: "a".to_owned(), end: Some("z".to_owned()), ..RangeRequest::default() }
}

fn show(kvs: &[KeyValue]) -> String {
    let one = |kv: &KeyValue| {
        let value = String::from_utf8_lossy(&kv.value).into_owned();
        format!("{}={value}@{}/{}", kv.key, kv.create_revision, kv.mod_revision)
    };
    kvs.iter().map(one).collect::<Vec<_>>().join(" ")
}

async fn read(store: &impl Store, revision: Option<Revision>) -> String {
    show(&store.range(RangeRequest { revision, ..all() }).await.expect("range").kvs)
}

fn show_event(event: &Event) -> String {
    match event {
        Event::Put { kv, prev } => format!("+{}({})", show(std::slice::from_ref(kv)), show(prev.as_slice())),
        Event::Delete { key, revision, prev } => format!("-{key}@{revision}({})", show(prev.as_slice())),
    }
}

/// The events of the next batches until `revision` has been reached.
async fn until(watch: &mut WatchStream, revision: Revision) -> String {
    let (mut shown, mut last) = (Vec::new(), 0);
    while last < revision {
        let batch: EventBatch = watch.next().await.expect("the watch goes on").expect("no error");
        assert!(batch.revision > last, "revisions rise: {} after {last}", batch.revision);
        last = batch.revision;
        shown.extend(batch.events.iter().map(show_event));
    }
    shown.join(" ")
}

async fn revisions_count_commits(store: impl Store) {
    assert_eq!(store.revision().await.expect("revision"), 0);
    assert_eq!(write(&store, vec![put("a", "1")]).await, 1);
    assert_eq!(write(&store, vec![put("a", "1")]).await, 2, "the same value is a change");
    assert_eq!(write(&store, vec![delete("nothing")]).await, 2, "no change, no revision");
    assert_eq!(write(&store, vec![]).await, 2);
    assert_eq!(write(&store, vec![delete("a")]).await, 3);
    assert_eq!(write(&store, vec![put("a", "2")]).await, 4);
    assert_eq!(store.revision().await.expect("revision"), 4);
    assert_eq!(read(&store, None).await, "a=2@4/4");
    assert!(store.size().await.expect("size") > 0);
}

async fn conditions_decide(store: impl Store) {
    let create = || Txn { compares: vec![equals("a", 0)], ops: vec![put("a", "1")] };
    assert!(matches!(store.txn(create()).await.expect("txn"), TxnOutcome::Committed { revision: 1 }));
    let TxnOutcome::Conflict { current } = store.txn(create()).await.expect("txn") else {
        panic!("created twice")
    };
    assert_eq!(show(&current), "a=1@1/1");
    let update = |at| Txn { compares: vec![equals("a", at), equals("b", 0)], ops: vec![put("a", "2")] };
    assert!(matches!(store.txn(update(1)).await.expect("txn"), TxnOutcome::Committed { revision: 2 }));
    assert!(matches!(store.txn(update(1)).await.expect("txn"), TxnOutcome::Conflict { .. }));
    assert_eq!(read(&store, None).await, "a=2@1/2");
    // Of many that race, one wins.
    let racers = (0..20).map(|_| store.txn(update(2)));
    let outcomes = futures::future::join_all(racers).await;
    let won = outcomes.iter().filter(|o| matches!(o, Ok(TxnOutcome::Committed { .. }))).count();
    assert_eq!((won, store.revision().await.expect("revision")), (1, 3));
}

async fn a_transaction_is_one_revision(store: impl Store) {
    let mut watch = store.watch("", 1).await.expect("watch");
    write(&store, vec![put("b", "1"), put("a", "1"), put("c", "1")]).await;
    write(&store, vec![delete("a"), put("b", "2")]).await;
    assert_eq!(read(&store, None).await, "b=2@1/2 c=1@1/1");
    assert_eq!(until(&mut watch, 1).await, "+b=1@1/1() +a=1@1/1() +c=1@1/1()");
    assert_eq!(until(&mut watch, 2).await, "-a@2(a=1@1/1) +b=2@1/2(b=1@1/1)");
    let twice = store.txn(Txn { compares: vec![], ops: vec![put("a", "1"), put("a", "2")] }).await;
    assert!(twice.is_err(), "one key twice");
    assert_eq!(store.revision().await.expect("revision"), 2);
}

async fn ranges_are_ordered_and_paged(store: impl Store) {
    for key in ["p/b", "p/a/x", "p/c", "p0", "o", "p/a"] {
        write(&store, vec![put(key, "v")]).await;
    }
    write(&store, vec![delete("p/b")]).await;
    let request = || RangeRequest { start: "p/".into(), end: Some("p0".into()), ..RangeRequest::default() };
    let keys = |kvs: &[KeyValue]| kvs.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
    let whole = store.range(request()).await.expect("range");
    assert_eq!(
        (keys(&whole.kvs), whole.count, whole.more),
        (vec!["p/a".into(), "p/a/x".into(), "p/c".into()], 3, false)
    );
    let page = store.range(RangeRequest { limit: 2, ..request() }).await.expect("range");
    assert_eq!((keys(&page.kvs), page.count, page.more), (vec!["p/a".into(), "p/a/x".into()], 3, true));
    let count = store.range(RangeRequest { count_only: true, ..request() }).await.expect("range");
    assert_eq!((count.kvs.len(), count.count, count.revision), (0, 3, 7));
    let one =
        store.range(RangeRequest { start: "p/a".into(), ..RangeRequest::default() }).await.expect("range");
    assert_eq!((keys(&one.kvs), one.count), (vec!["p/a".into()], 1));
}

async fn the_past_can_be_read(store: impl Store) {
    write(&store, vec![put("a", "1")]).await;
    write(&store, vec![put("b", "1")]).await;
    write(&store, vec![put("a", "2"), delete("b")]).await;
    assert_eq!(read(&store, Some(1)).await, "a=1@1/1");
    assert_eq!(read(&store, Some(2)).await, "a=1@1/1 b=1@2/2");
    assert_eq!(read(&store, Some(3)).await, "a=2@1/3");
    let error = store.range(RangeRequest { revision: Some(4), ..all() }).await.expect_err("the future");
    assert!(matches!(error, StoreError::Future { asked: 4, newest: 3 }), "{error}");
}

async fn watches_join_without_gap(store: impl Store + 'static) {
    let store = std::sync::Arc::new(store);
    for n in 0..700 {
        write(&*store, vec![put(&format!("k{}", n % 7), "past")]).await;
    }
    let writer = store.clone();
    let writing = async move {
        for n in 0..300 {
            write(&*writer, vec![put(&format!("k{}", n % 7), "live")]).await;
            tokio::task::yield_now().await;
        }
    };
    let watcher = store.clone();
    let watching = async move {
        let mut watches = Vec::new();
        for from in [1, 350, 700, 701, 1000] {
            watches.push((from, watcher.watch("k", from).await.expect("watch")));
        }
        for (from, mut watch) in watches {
            let mut next = from;
            while next <= 1000 {
                let batch = watch.next().await.expect("goes on").expect("no error");
                if batch.events.is_empty() {
                    continue;
                }
                assert_eq!((batch.revision, batch.events.len()), (next, 1), "from {from}");
                next += 1;
            }
        }
    };
    tokio::join!(writing, watching);
}

async fn watches_see_only_their_prefix(store: impl Store) {
    write(&store, vec![put("a/1", "x"), put("b/1", "x")]).await;
    let mut watch = store.watch("b/", 1).await.expect("watch");
    write(&store, vec![put("a/2", "x")]).await;
    assert_eq!(until(&mut watch, 2).await, "+b/1=x@1/1()");
    write(&store, vec![put("b/2", "x")]).await;
    assert_eq!(until(&mut watch, 3).await, "+b/2=x@3/3()");
}

async fn compaction_forgets_what_was_overwritten(store: impl Store) {
    write(&store, vec![put("a", "1"), put("b", "1"), put("c", "1")]).await;
    write(&store, vec![put("a", "2"), delete("b")]).await;
    write(&store, vec![put("a", "3")]).await;
    write(&store, vec![delete("c")]).await;
    store.compact(3).await.expect("compact");
    assert_eq!(read(&store, Some(3)).await, "a=3@1/3 c=1@1/1");
    assert_eq!(read(&store, None).await, "a=3@1/3");
    let old = store.range(RangeRequest { revision: Some(2), ..all() }).await.expect_err("gone");
    assert!(matches!(old, StoreError::Compacted { asked: 2, oldest: 3 }), "{old}");
    let old = store.watch("", 2).await.map(|_| ()).expect_err("gone");
    assert!(matches!(old, StoreError::Compacted { asked: 2, oldest: 3 }), "{old}");
    assert!(matches!(store.compact(9).await, Err(StoreError::Future { .. })));
    assert!(matches!(store.compact(1).await, Err(StoreError::Compacted { .. })));
    store.compact(4).await.expect("compact up to the newest");
    assert_eq!(store.revision().await.expect("revision"), 4);
    assert_eq!(write(&store, vec![put("b", "2")]).await, 5);
    assert_eq!(read(&store, None).await, "a=3@1/3 b=2@5/5");
}

async fn compaction_keeps_watches_true(store: impl Store) {
    write(&store, vec![put("a", "1"), put("b", "1")]).await;
    write(&store, vec![put("a", "2")]).await;
    write(&store, vec![put("a", "3"), delete("b")]).await;
    write(&store, vec![put("a", "4"), put("b", "2")]).await;
    store.compact(3).await.expect("compact");
    let mut watch = store.watch("", 3).await.expect("watch");
    assert_eq!(until(&mut watch, 3).await, "+a=3@1/3(a=2@1/2) -b@3(b=1@1/1)");
    assert_eq!(until(&mut watch, 4).await, "+a=4@1/4(a=3@1/3) +b=2@4/4()");
}

fn leased(key: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.to_owned(), value: Bytes::from_static(b"x"), lease }
}

async fn leases_take_their_keys_along(store: impl Store) {
    let lease = store.lease_grant(3600).await.expect("grant");
    let other = store.lease_grant(3600).await.expect("grant");
    assert_ne!(lease, other);
    write(&store, vec![leased("a", lease), leased("b", lease), leased("c", other), put("d", "x")]).await;
    write(&store, vec![put("b", "free")]).await;
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(read(&store, None).await, "b=free@1/2 c=x@1/1 d=x@1/1");
    assert_eq!(store.revision().await.expect("revision"), 3);
    let gone = store.txn(Txn { compares: vec![], ops: vec![leased("e", lease)] }).await;
    assert!(gone.is_err(), "an ended lease takes no keys");
}

async fn leases_end(store: impl Store) {
    let mut watch = store.watch("", 1).await.expect("watch");
    let lease = store.lease_grant(1).await.expect("grant");
    write(&store, vec![leased("a", lease)]).await;
    let seen = tokio::time::timeout(std::time::Duration::from_secs(10), until(&mut watch, 2)).await;
    assert_eq!(seen.expect("the lease ends"), "+a=x@1/1() -a@2(a=x@1/1)");
}
