//! What every client of the API shares: transports, informers over slim views, work queues, events.
//!
//! Start at [`in_process`] or [`from_kubeconfig`] for a client, [`Informer`] to read, [`Calls`] to write.
//! Readers keep views of their own (serde structs with the fields they look at, around [`views::Meta`]);
//! writes are creates and patches, so that fields we do not know survive.

mod backoff; // delays between tries: exponential, jittered
mod calls; // single requests with a deadline: create, patch, delete, get, list
mod events; // core/v1 Events: counted, aggregated, rate limited
mod informer; // list and watch, kept in memory
mod object; // what an informer must know of an object; its key
mod queue; // work queue with per-key back-off
mod renewable; // a client whose credentials change under way
mod resource; // where a kind lives in the API's paths
mod transport; // kube clients over TLS and in one process
pub mod views; // metadata and references with only the fields that are read

#[cfg(any(test, feature = "testing"))]
pub mod testing; // an API server in memory, with faults on demand

pub use backoff::Backoff;
pub use calls::{CallError, Calls, Deletion, Propagation, report};
pub use events::{EventRecorder, EventType, ObjectRef};
pub use informer::{Change, Endpoint, Index, Informer, Params, Store, Subscription};
pub use object::{Key, Object};
pub use queue::WorkQueue;
pub use renewable::{Renewal, renewable};
pub use resource::Resource;
pub use transport::{TransportError, from_kubeconfig, from_kubeconfig_as, in_process};
