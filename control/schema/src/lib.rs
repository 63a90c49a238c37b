//! The table of every API type, and all that is written once over it.
//!
//! Start at [`lookup`]: it finds the [`Type`] of a kind, which everything else takes. Objects are `serde_json::Value`
//! in the form that [`json::decode`] gives them; at rest they are protobuf ([`proto`]).
//! Nothing here does I/O, and nothing knows a kind by name: what is special to one kind lives in the API server.

pub mod apply; // server-side apply and managedFields
pub mod defaults; // the defaults that the table knows
pub mod json; // JSON into a Value: prunes, checks, canonicalises
pub mod openapi; // OpenAPI documents
pub mod patch; // JSON patch, merge patch, strategic merge
pub mod proto; // the form at rest, and what upstream's components send
pub mod table; // the built-in types
pub mod types; // what a type is
pub mod yaml; // the same out of YAML

#[cfg(test)]
mod testing; // random objects

pub use table::lookup;
pub use types::{Field, Kind, ListType, Shape, Type, TypeRef};
