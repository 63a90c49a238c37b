//! Which events are sent, and how: the same again is counted, many alike are combined, a flood is cut.
//!
//! Numbers are those of upstream's correlator: at most 25 at once and one per 5 minutes for one object; from the
//! tenth different message within 10 minutes on, messages of one reason are combined.

use super::{EventType, Happening, ObjectRef};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

const BURST: f64 = 25.0;
const SECONDS_PER_TOKEN: f64 = 300.0;
const COMBINE_FROM: usize = 10;
const COMBINE_WITHIN: i64 = 600;
/// Entries per table; the oldest make room.
const KEPT: usize = 512;

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop,
    Create { name: String, message: String },
    Count { name: String, count: u32, message: String },
}

/// An object, type and reason.
type Kindred = (ObjectRef, EventType, String);
/// The same, and the message unless messages are combined.
type Same = (Kindred, Option<String>);

#[derive(Default)]
pub(super) struct Correlator {
    tokens: Recent<ObjectRef, f64>,
    messages: Recent<Kindred, BTreeSet<String>>,
    sent: Recent<Same, (String, u32)>,
}

impl Correlator {
    pub(super) fn observe(&mut self, it: &Happening) -> Verdict {
        let now = it.at.as_second();
        let (same, message) = self.combine(it, now);
        let count = match self.sent.get(&same) {
            Some((_, (_, count))) => count + 1,
            None => 1,
        };
        let name = match self.sent.get(&same) {
            Some((_, (name, _))) => name.clone(),
            None => event_name(&it.about.name, it.at),
        };
        self.sent.put(same, now, (name.clone(), count));
        if !self.take_token(&it.about, now) {
            return Verdict::Drop;
        }
        if count == 1 { Verdict::Create { name, message } } else { Verdict::Count { name, count, message } }
    }

    /// The server has forgotten the event: a new name, counted from one.
    pub(super) fn renew(&mut self, it: &Happening) -> String {
        let now = it.at.as_second();
        let (same, _) = self.combine(it, now);
        let name = event_name(&it.about.name, it.at);
        self.sent.put(same, now, (name.clone(), 1));
        name
    }

    fn combine(&mut self, it: &Happening, now: i64) -> (Same, String) {
        let kindred = (unversioned(&it.about), it.kind, it.reason.clone());
        let mut messages = match self.messages.get(&kindred) {
            Some((last, messages)) if now - last <= COMBINE_WITHIN => messages.clone(),
            _ => BTreeSet::new(),
        };
        messages.insert(it.message.clone());
        let many = messages.len() >= COMBINE_FROM;
        if many {
            messages.pop_first();
        }
        self.messages.put(kindred.clone(), now, messages);
        if many {
            ((kindred, None), format!("(combined from similar events): {}", it.message))
        } else {
            ((kindred, Some(it.message.clone())), it.message.clone())
        }
    }

    fn take_token(&mut self, about: &ObjectRef, now: i64) -> bool {
        let about = unversioned(about);
        #[expect(clippy::cast_precision_loss, reason = "seconds between two events")]
        let left = match self.tokens.get(&about) {
            Some((last, left)) => (left + (now - last).max(0) as f64 / SECONDS_PER_TOKEN).min(BURST),
            None => BURST,
        };
        let allowed = left >= 1.0;
        self.tokens.put(about, now, if allowed { left - 1.0 } else { left });
        allowed
    }
}

/// The object without its version: the same object later is the same.
fn unversioned(about: &ObjectRef) -> ObjectRef {
    ObjectRef { resource_version: String::new(), ..about.clone() }
}

fn event_name(object: &str, at: Timestamp) -> String {
    // Names of objects may fill 253 bytes; the rest must fit.
    let object: String = object.chars().take(235).collect();
    format!("{object}.{:x}", at.as_nanosecond())
}

/// A map of bounded size that forgets what was touched longest ago.
struct Recent<K, V> {
    entries: HashMap<K, (i64, V)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    fn get(&self, key: &K) -> Option<&(i64, V)> {
        self.entries.get(key)
    }

    fn put(&mut self, key: K, now: i64, value: V) {
        if self.entries.len() >= KEPT && !self.entries.contains_key(&key) {
            // Rare, so half at once: the cost of sorting is shared by many.
            let mut ages: Vec<i64> = self.entries.values().map(|(at, _)| *at).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.entries.retain(|_, (at, _)| *at > middle);
        }
        self.entries.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str, message: &str, at: i64) -> Happening {
        Happening {
            about: ObjectRef { kind: "Pod".into(), name: object.into(), ..ObjectRef::default() },
            kind: EventType::Normal,
            reason: "R".into(),
            message: message.into(),
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    fn short(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Drop => "drop".into(),
            Verdict::Create { message, .. } => format!("create {message}"),
            Verdict::Count { count, message, .. } => format!("{count} {message}"),
        }
    }

    #[test]
    fn the_same_is_counted_under_one_name() {
        let mut c = Correlator::default();
        let first = c.observe(&event("a", "m", 1));
        let Verdict::Create { name: created, .. } = first else { panic!("{first:?}") };
        let second = c.observe(&event("a", "m", 2));
        assert_eq!(second, Verdict::Count { name: created, count: 2, message: "m".into() });
        assert_eq!(short(&c.observe(&event("b", "m", 2))), "create m");
    }

    #[test]
    fn from_the_tenth_message_on_they_are_combined() {
        let mut c = Correlator::default();
        for n in 0..9 {
            assert_eq!(short(&c.observe(&event("a", &format!("m{n}"), 1))), format!("create m{n}"));
        }
        assert_eq!(short(&c.observe(&event("a", "m9", 2))), "create (combined from similar events): m9");
        assert_eq!(short(&c.observe(&event("a", "m10", 3))), "2 (combined from similar events): m10");
        assert_eq!(short(&c.observe(&event("a", "late", 700))), "create late");
    }

    #[test]
    fn a_flood_is_cut_and_trickles() {
        let mut c = Correlator::default();
        let sent = (0..100).filter(|_| c.observe(&event("a", "m", 5)) != Verdict::Drop).count();
        assert_eq!(sent, 25);
        assert_eq!(short(&c.observe(&event("a", "m", 5 + 301))), "101 m");
        assert_eq!(c.observe(&event("a", "m", 5 + 302)), Verdict::Drop);
        assert_eq!(
            short(&c.observe(&event("b", "m", 5))),
            "create m",
            "another object has tokens of its own"
        );
    }

    #[test]
    fn tables_stay_bounded() {
        let mut c = Correlator::default();
        for n in 0..3 * KEPT {
            c.observe(&event(&format!("p{n}"), "m", i64::try_from(n).unwrap()));
        }
        assert!(c.sent.entries.len() <= KEPT && c.tokens.entries.len() <= KEPT);
    }
}
