//! The resources that are served, and every verb over them, each written once.

mod create;
mod decode; // request bodies to trees
pub mod delete;
mod fields; // who manages which fields
mod lease; // events vanish after an hour
pub mod list;
mod meta; // what all objects have in common: checks and bookkeeping of metadata
mod options; // query parameters and DeleteOptions
pub mod output; // answers in every form
mod patch;
mod resource; // one resource: table row, kind, codec, cache
mod review; // resources that are answered, not stored
mod scale;
mod select; // label and field selectors over objects
pub mod subresource; // binding, eviction, tokens
pub mod table; // server-printed tables
pub mod update;
mod watch;

pub use lease::EventLease;
pub use meta::new_uid;
pub use options::{DeleteOptions, Moment, WriteOptions};
pub use resource::{Registry, Resource, Written};
