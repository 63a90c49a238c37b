//! A queue of keys to look at: each at most once, never by two workers, later after failures.

use crate::Backoff;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keys waiting to be worked on.
///
/// A key that is added while it waits is worked on once; one that is added while a worker has it comes back after
/// [`done`](Self::done), so no change is missed and no key is worked on twice at a time.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    first: Duration,
    most: Duration,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys in `ready`, and keys to put there once their worker is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    later_at: HashMap<K, Instant>,
    failures: HashMap<K, Backoff>,
    closed: bool,
}

impl<K: Clone + Eq + Hash + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// An empty queue whose failed keys come back after 5 ms, doubling up to 2 minutes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_backoff(Duration::from_millis(5), Duration::from_secs(120))
    }

    /// An empty queue with its own back-off.
    #[must_use]
    pub fn with_backoff(first: Duration, most: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: BTreeSet::new(),
            later_at: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), first, most }
    }

    /// Adds a key now.
    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Adds a key after a while; an earlier time that is already set stays.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.lock().add_at(key, Instant::now() + delay);
        // A waiting worker must see the new, possibly earlier, time.
        self.wake.notify_one();
    }

    /// Adds a key after its back-off: 5 ms, 10 ms, 20 ms, ... until [`forget`](Self::forget).
    pub fn retry(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let (first, most) = (self.first, self.most);
            state.failures.entry(key.clone()).or_insert_with(|| Backoff::new(first, most)).next_plain()
        };
        self.add_after(key, delay);
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key, given to this worker alone until [`done`](Self::done); `None` after [`close`](Self::close).
    /// Cancel safe.
    pub async fn next(&self) -> Option<K> {
        loop {
            let woken = self.wake.notified();
            let wait = {
                let mut state = self.lock();
                if state.closed {
                    // Wake the next waiting worker too.
                    self.wake.notify_one();
                    return None;
                }
                state.ripen(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.first().map(|(at, _)| *at)
            };
            match wait {
                Some(at) => {
                    // Losing either arm loses only a wake-up: the queue is looked at again.
                    tokio::select! { () = woken => {}, () = tokio::time::sleep_until(at) => {} }
                }
                None => woken.await,
            }
        }
    }

    /// The worker is done with a key; it comes back at once if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            self.wake.notify_one();
        }
    }

    /// Ends the queue: every worker gets `None`.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// How many keys are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// True when a worker may take the key now.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if self.closed {
            return;
        }
        if let Some(before) = self.later_at.get(&key) {
            if *before <= at {
                return;
            }
            self.later.remove(&(*before, key.clone()));
        }
        self.later_at.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    fn ripen(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.later_at.remove(&key);
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_given_once_and_comes_back_if_added_meanwhile() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert_eq!(queue.len(), 0, "a is with its worker");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_wins() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 2);
        queue.done(&"a");
        let nothing = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(nothing.is_err(), "the later times were replaced, not added");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_slow_a_key_down_until_forgotten() {
        let queue = WorkQueue::new();
        let mut waits = Vec::new();
        for round in 0..4 {
            if round == 3 {
                queue.forget(&"a");
            }
            let start = Instant::now();
            queue.retry("a");
            let key = queue.next().await.unwrap();
            queue.done(&key);
            waits.push(start.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_key_wakes_a_sleeping_worker() {
        let queue = Arc::new(WorkQueue::new());
        queue.add_after("late", Duration::from_secs(100));
        let worker = tokio::task::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("soon");
        assert_eq!(worker.await.unwrap(), Some("soon"));
    }

    #[tokio::test(start_paused = true)]
    async fn close_ends_every_worker() {
        let queue = Arc::new(WorkQueue::<u8>::new());
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let queue = Arc::clone(&queue);
            workers.spawn(async move { queue.next().await });
        }
        tokio::task::yield_now().await;
        queue.close();
        while let Some(ended) = workers.join_next().await {
            assert_eq!(ended.unwrap(), None);
        }
    }
}
