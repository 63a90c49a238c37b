//! Verdicts, kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many are kept; beyond that the stale ones go, then all.
const KEPT: usize = 1024;

/// A small map whose entries end.
pub(super) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    pub fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(end, _)| *end > Instant::now()).map(|(_, value)| value.clone())
    }

    pub fn put(&self, key: K, value: V, life: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= KEPT {
            entries.retain(|_, (end, _)| *end > now);
        }
        if entries.len() >= KEPT {
            entries.clear();
        }
        entries.insert(key, (now + life, value));
    }
}
