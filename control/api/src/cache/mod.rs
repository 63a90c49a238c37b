//! The watch cache: every resource's objects as encoded bytes in memory, fed by one watch of the store.
//!
//! A [`Feed`] owns that watch and hands each change to the [`Cache`] of its folder. A cache starts empty and cold; the
//! first reader loads it. Reads are consistent: [`Feed::caught_up`] waits until everything committed so far is here,
//! which is at once, since the store publishes at commit.

mod feed; // one watch of the store, all caches
mod index; // one folder: objects, recent changes, watchers

pub use feed::Feed;
pub use index::{Cache, Change, Hook, Live, Object, Snapshot, Start, Subscription, TooOld};
