//! Where pods come from: the API server, a folder of manifests. And whether this node takes them.

pub mod admission; // pure: does this node take the pod?
mod files; // static pods from a folder
mod manifest; // a file into a static pod
mod mirror; // static pods as the API server shows them
pub mod resize; // pure: may a running pod have other resources?
mod run; // puts them together
mod web; // static pods from a URL

pub use run::{SourceDeps, Sources};

#[cfg(test)]
mod tests;
