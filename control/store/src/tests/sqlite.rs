use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::StreamExt;

use crate::contract::{put, suite, write};
use crate::{Op, Options, RangeRequest, Sqlite, Store, StoreError, Txn};

pub fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, Options::default()).unwrap()
}

/// A store that takes its folder along.
struct Temporary {
    store: Sqlite,
    _folder: tempfile::TempDir,
}

#[async_trait::async_trait]
impl Store for Temporary {
    async fn range(&self, request: RangeRequest) -> Result<crate::RangeResponse, StoreError> {
        self.store.range(request).await
    }
    async fn txn(&self, txn: Txn) -> Result<crate::TxnOutcome, StoreError> {
        self.store.txn(txn).await
    }
    async fn watch(&self, prefix: &str, from: i64) -> Result<crate::WatchStream, StoreError> {
        self.store.watch(prefix, from).await
    }
    async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
    async fn lease_grant(&self, ttl: i64) -> Result<i64, StoreError> {
        self.store.lease_grant(ttl).await
    }
    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.store.lease_revoke(id).await
    }
    async fn revision(&self) -> Result<i64, StoreError> {
        self.store.revision().await
    }
    async fn size(&self) -> Result<u64, StoreError> {
        self.store.size().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_the_contract() {
    suite(|| async {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("store"));
        Temporary { store, _folder: folder }
    })
    .await;
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(&path);
    write(&store, vec![put("a", "1")]).await;
    write(&store, vec![put("a", "2"), put("b", "1")]).await;
    write(&store, vec![Op::Delete { key: "b".into() }]).await;
    store.compact(3).await.unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(store.revision().await.unwrap(), 3, "also when the newest change was a deletion");
    assert_eq!(write(&store, vec![put("c", "1")]).await, 4);
    let old = store.watch("", 2).await.map(|_| ()).unwrap_err();
    assert!(matches!(old, StoreError::Compacted { .. }), "{old}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn leases_end_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(&path);
    let lease = store.lease_grant(1).await.unwrap();
    write(&store, vec![Op::Put { key: "a".into(), value: "x".into(), lease }]).await;
    drop(store);
    let store = open(&path);
    let mut watch = store.watch("", 2).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next()).await;
    assert_eq!(ended.unwrap().unwrap().unwrap().revision, 2);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = open(&path);
    let error = Sqlite::open(&path, Options::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().ends_with("another process has it open"), "{error}");
    write(&first, vec![put("a", "1")]).await;
    drop(first);
    assert_eq!(open(&path).revision().await.unwrap(), 1);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { watch_queue: 5, ..Options::default() };
    let store = Sqlite::open(folder.path().join("store"), options).unwrap();
    let mut slow = store.watch("", 1).await.unwrap();
    let mut quick = store.watch("", 1).await.unwrap();
    for n in 1..=10 {
        write(&store, vec![put("a", "x")]).await;
        assert_eq!(quick.next().await.unwrap().unwrap().revision, n);
    }
    for n in 1..=5 {
        assert_eq!(slow.next().await.unwrap().unwrap().revision, n);
    }
    assert!(matches!(slow.next().await, Some(Err(StoreError::Lagged))));
    assert!(slow.next().await.is_none());
    drop(store);
    assert!(matches!(quick.next().await, Some(Err(StoreError::Closed))));
}
