//! The embedded engine under the contract, killed, damaged and full.

mod damage; // files that must be refused, disks that are full
mod kill; // processes killed while they write
mod model; // against a simple model
mod sqlite; // contract, restart, lock, lagging watchers
