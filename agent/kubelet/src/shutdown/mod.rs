//! Graceful node shutdown: systemd-logind lets us hold a shutdown up until pods have ended.
//!
//! While the kubelet runs it holds a delay lock of logind. When a shutdown is announced, the node stops being ready,
//! takes no more pods and ends those that it has, those of the lowest priority first; then the lock is given back.

mod logind; // the lock and the announcements
mod plan; // who ends when, and with how much time: pure
mod run; // what happens then

pub use run::{ShutdownDeps, ShuttingDown, run};

#[cfg(test)]
mod tests;
