//! The cluster's memory: an MVCC key-value store. Start at [`Store`].

mod error; // how it fails
mod store; // the trait and its words

pub use error::StoreError;
pub use store::{
    Compare, Event, EventBatch, KeyValue, LeaseId, Op, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnOutcome, WatchStream,
};
