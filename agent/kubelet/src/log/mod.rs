//! Container logs on disk: linked for collectors, rotated when they have grown too large, removed with their containers.
//!
//! Nothing is looked at while nothing is written: a log sleeps under a one-shot watch of the kernel's, and is looked
//! at again only after a write, the sooner the faster it grows.

mod files; // the files of one log: which are kept, which are compressed
mod growth; // when to look at a log again
mod links; // what collectors read: a link to each log
mod rotate; // one rotation
mod rotator; // which logs there are, and whose turn it is

pub use files::remove_all;
pub(crate) use files::rotated_after;
pub use links::remove_dead_links;
pub use rotator::{RotatorDeps, run};

#[cfg(test)]
mod tests;
