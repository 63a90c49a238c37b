//! The cluster's memory: an MVCC key-value store. Start at [`Store`]; the embedded engine is [`Sqlite`].

#[cfg(any(test, feature = "testing"))]
pub mod contract; // what every engine must hold
mod error; // how it fails
mod sqlite; // the embedded engine
mod store; // the trait and its words

pub use error::StoreError;
pub use sqlite::{Options, Sqlite};
pub use store::{
    Compare, Event, EventBatch, KeyValue, LeaseId, Op, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnOutcome, WatchStream,
};

#[cfg(test)]
mod tests; // the embedded engine under the contract, killed, damaged and full
