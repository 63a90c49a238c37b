//! What a container runtime does: run plugins and chains of them, keep results.
mod cache; // results on disk, between ADD and DEL
pub mod exec; // one plugin, one process
mod runtime; // a whole list: ADD, CHECK, DEL, GC, STATUS

pub use runtime::{Attachment, Runtime};
