//! Random writes, reads of the past, compactions and restarts, beside a model that keeps everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::sqlite::open;
use crate::contract::put;
use crate::{Compare, Op, RangeRequest, Store, StoreError, Txn, TxnOutcome};

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, bool)>, Option<(u8, bool)>),
    Compact(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop::collection::btree_map(0..6_u8, any::<bool>(), 1..4);
    let condition = prop::option::of((0..6_u8, any::<bool>()));
    prop_oneof![
        20 => (write, condition).prop_map(|(ops, condition)| Step::Write(ops.into_iter().collect(), condition)),
        2 => (0..10_u8).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// Keys with the revision of their last change.
type State = BTreeMap<String, i64>;

async fn play(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut store = open(&path);
    let mut history: Vec<State> = vec![State::new()];
    let mut compacted = 0;
    for step in steps {
        let mut state = history.last().unwrap().clone();
        let revision = i64::try_from(history.len()).unwrap();
        match step {
            Step::Restart => {
                drop(store);
                store = open(&path);
            }
            Step::Compact(back) => {
                let at = revision - 1 - i64::from(back);
                if at >= compacted {
                    store.compact(at).await.unwrap();
                    compacted = at;
                }
            }
            Step::Write(writes, condition) => {
                let mut txn = Txn::default();
                let mut holds = true;
                if let Some((key, right)) = condition {
                    let key = format!("k{key}");
                    let present = state.get(&key).copied().unwrap_or(0);
                    holds = right;
                    txn.compares.push(Compare::ModRevision { key, equals: present + i64::from(!right) });
                }
                let mut changed = false;
                for (key, set) in writes {
                    let key = format!("k{key}");
                    if set {
                        txn.ops.push(put(&key, &revision.to_string()));
                        state.insert(key, revision);
                        changed = true;
                    } else {
                        changed |= state.remove(&key).is_some();
                        txn.ops.push(Op::Delete { key });
                    }
                }
                match store.txn(txn).await.unwrap() {
                    TxnOutcome::Conflict { .. } => assert!(!holds),
                    TxnOutcome::Committed { revision: at } => {
                        assert!(holds);
                        assert_eq!(at, if changed { revision } else { revision - 1 });
                        if changed {
                            history.push(state);
                        }
                    }
                }
            }
        }
        for (revision, state) in history.iter().enumerate() {
            let revision = i64::try_from(revision).unwrap();
            let request = RangeRequest {
                start: "k".into(),
                end: Some("l".into()),
                revision: Some(revision),
                ..RangeRequest::default()
            };
            match store.range(request).await {
                Ok(found) => {
                    assert!(revision >= compacted);
                    let found: State = found.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
                    assert_eq!(&found, state, "at {revision}");
                }
                Err(StoreError::Compacted { .. }) => assert!(revision < compacted),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_its_model(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
            .block_on(play(steps));
    }
}
