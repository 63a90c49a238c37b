//! All services as they shall be in the kernel; the difference between then and now as text. Pure.
//!
//! The kernel is never read: what it has is what this state last said. When a transaction fails, the next
//! one is the whole table.

use crate::config::ProxyConfig;
use crate::rules::{Element, Front, Node, Rules, fronts, rules, usual_picks};
use crate::table;
use crate::views::{Service, Slice};
use coracle_client::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

/// A service and its slices, as the informers have them now.
pub(crate) struct Input {
    pub(crate) service: Arc<Service>,
    pub(crate) slices: Vec<Arc<Slice>>,
}

/// What a batch of changes asks of the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Text for one transaction; empty when nothing changes.
    pub(crate) text: String,
    /// The kernel must be told everything: a chain is new that only goes in with the whole table.
    pub(crate) whole: bool,
    /// UDP fronts whose backends changed: flows to any other backend must be forgotten.
    pub(crate) udp: BTreeMap<Front, BTreeSet<SocketAddr>>,
}

pub(crate) struct State {
    config: ProxyConfig,
    node: Node,
    services: HashMap<Key, Rules>,
    /// The fronts that a service wants.
    fronts: HashMap<Key, Vec<Front>>,
    /// Which service has a front; the first keeps it.
    owners: HashMap<Front, Key>,
    /// Services that would have a front if its owner gave it up.
    waiting: HashMap<Front, BTreeSet<Key>>,
    /// How many services have an element that several may have.
    counts: HashMap<Element, u32>,
    /// Shared chains that are in the kernel; they cost nothing and stay.
    shared: BTreeMap<String, Vec<String>>,
}

impl State {
    pub(crate) fn new(config: ProxyConfig) -> State {
        let node = table::node(&config);
        State {
            config,
            node,
            services: HashMap::new(),
            fronts: HashMap::new(),
            owners: HashMap::new(),
            waiting: HashMap::new(),
            counts: HashMap::new(),
            shared: usual_picks(),
        }
    }

    /// Takes changes in; `read` gives a service as it is now, or nothing when it is gone.
    pub(crate) fn change(&mut self, changed: BTreeSet<Key>, read: impl Fn(&Key) -> Option<Input>) -> Delta {
        let mut batch: BTreeMap<Key, Rules> = BTreeMap::new();
        let mut todo = changed;
        while let Some(key) = todo.pop_first() {
            let input = read(&key).filter(|input| input.service.is_proxied());
            let wanted: Vec<Front> = input.as_ref().map(|it| fronts(&it.service)).unwrap_or_default();
            // Whoever waited for a front that is given up has its turn in the same transaction.
            todo.extend(self.release(&key, &wanted));
            let granted = self.claim(&key, wanted);
            let now = input.map(|it| {
                let slices: Vec<&Slice> = it.slices.iter().map(AsRef::as_ref).collect();
                rules(&it.service, &slices, &self.node, &granted)
            });
            batch.insert(key, now.unwrap_or_default());
        }
        self.replace(batch)
    }

    /// The whole table as it shall be.
    pub(crate) fn full(&self) -> String {
        let mut text = table::skeleton(&self.config);
        let owned: Vec<&Rules> = self.services.values().collect();
        let mut chains: BTreeMap<&String, &Vec<String>> = self.shared.iter().collect();
        let (mut sets, mut elements) = (BTreeMap::new(), BTreeSet::new());
        for rules in owned {
            chains.extend(&rules.chains);
            sets.extend(&rules.sets);
            elements.extend(&rules.elements);
        }
        self.add_objects(&mut text, &sets, &chains);
        self.add_elements(&mut text, elements.into_iter());
        text
    }

    /// Gives up the fronts that are no longer wanted; who waits for one of them.
    fn release(&mut self, key: &Key, wanted: &[Front]) -> BTreeSet<Key> {
        let mut next = BTreeSet::new();
        for front in self.fronts.remove(key).unwrap_or_default() {
            if self.owners.get(&front) == Some(key) && !wanted.contains(&front) {
                self.owners.remove(&front);
                next.extend(self.waiting.remove(&front).unwrap_or_default());
            }
        }
        self.waiting.retain(|front, keys| {
            if !wanted.contains(front) {
                keys.remove(key);
            }
            !keys.is_empty()
        });
        next
    }

    fn claim(&mut self, key: &Key, wanted: Vec<Front>) -> BTreeSet<Front> {
        let mut granted = BTreeSet::new();
        for front in &wanted {
            let front = *front;
            let owner = self.owners.entry(front).or_insert_with(|| key.clone());
            if owner == key {
                granted.insert(front);
            } else {
                self.waiting.entry(front).or_default().insert(key.clone());
            }
        }
        if !wanted.is_empty() {
            self.fronts.insert(key.clone(), wanted);
        }
        granted
    }

    fn replace(&mut self, batch: BTreeMap<Key, Rules>) -> Delta {
        let (mut before, mut after) = (Side::default(), Side::default());
        for (key, now) in batch {
            let then = self.services.remove(&key).unwrap_or_default();
            for element in now.elements.iter() {
                let count = self.counts.entry(element.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    after.elements.insert(element.clone());
                }
            }
            for element in &then.elements {
                // One that stays is counted twice here, and is neither new nor gone.
                let count = self.counts.get_mut(element).map_or(0, |count| {
                    *count -= 1;
                    *count
                });
                if count == 0 {
                    self.counts.remove(element);
                    before.elements.insert(element.clone());
                }
            }
            before.take(then.clone());
            after.take(now.clone());
            if now != Rules::default() {
                self.services.insert(key, now);
            }
        }
        // Moved from one service of the batch to another: in the kernel it stays.
        let moved: Vec<Element> = before.elements.intersection(&after.elements).cloned().collect();
        for element in moved {
            before.elements.remove(&element);
            after.elements.remove(&element);
        }
        let whole =
            after.shared.iter().any(|(name, body)| needs_its_map(body) && !self.shared.contains_key(name));
        let text = self.difference(&before, &after);
        Delta { text, whole, udp: stale(before.udp, after.udp) }
    }

    fn difference(&mut self, before: &Side, after: &Side) -> String {
        let mut text = String::new();
        let fresh: BTreeMap<String, Vec<String>> = after
            .shared
            .iter()
            .filter(|it| !self.shared.contains_key(it.0))
            .map(|it| (it.0.clone(), it.1.clone()))
            .collect();
        let mut chains: BTreeMap<&String, &Vec<String>> = fresh.iter().collect();
        chains.extend(after.chains.iter().filter(|(name, body)| before.chains.get(*name) != Some(body)));
        let sets = after.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name)).collect();
        self.add_objects(&mut text, &sets, &chains);
        self.delete_elements(&mut text, before.elements.iter());
        self.add_elements(&mut text, after.elements.iter());
        let table = &self.config.table;
        let gone: Vec<&String> =
            before.chains.keys().filter(|name| !after.chains.contains_key(*name)).collect();
        for verb in ["flush", "delete"] {
            for name in &gone {
                let _ = writeln!(text, "{verb} chain inet {table} {name}"); // writing to a String does not fail
            }
        }
        for name in before.sets.keys().filter(|name| !after.sets.contains_key(*name)) {
            let _ = writeln!(text, "delete set inet {table} {name}");
        }
        self.shared.extend(fresh);
        text
    }

    fn add_objects(
        &self,
        text: &mut String,
        sets: &BTreeMap<&String, &String>,
        chains: &BTreeMap<&String, &Vec<String>>,
    ) {
        let table = &self.config.table;
        for (name, definition) in sets {
            let _ = writeln!(text, "add set inet {table} {name} {{ {definition} }}");
        }
        for name in chains.keys() {
            let _ = writeln!(text, "add chain inet {table} {name}");
        }
        for (name, body) in chains {
            let _ = writeln!(text, "flush chain inet {table} {name}");
            for rule in *body {
                let _ = writeln!(text, "add rule inet {table} {name} {rule}");
            }
        }
    }

    fn add_elements<'a>(&self, text: &mut String, elements: impl Iterator<Item = &'a Element>) {
        self.by_object(text, "add", elements, |element| match &element.value {
            Some(value) => format!("{} : {value}", element.key),
            None => element.key.clone(),
        });
    }

    fn delete_elements<'a>(&self, text: &mut String, elements: impl Iterator<Item = &'a Element>) {
        self.by_object(text, "delete", elements, |element| element.key.clone());
    }

    /// One command for all elements of an object.
    fn by_object<'a>(
        &self,
        text: &mut String,
        verb: &str,
        elements: impl Iterator<Item = &'a Element>,
        write: impl Fn(&Element) -> String,
    ) {
        let mut objects: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for element in elements {
            objects.entry(&element.object).or_default().push(write(element));
        }
        for (object, list) in objects {
            let _ = writeln!(
                text,
                "{verb} element inet {} {object} {{ {} }}",
                self.config.table,
                list.join(", ")
            );
        }
    }
}

/// What the services of a batch have together, before or after it.
#[derive(Default)]
struct Side {
    elements: BTreeSet<Element>,
    shared: BTreeMap<String, Vec<String>>,
    chains: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, String>,
    udp: BTreeMap<Front, BTreeSet<SocketAddr>>,
}

impl Side {
    fn take(&mut self, rules: Rules) {
        self.shared.extend(rules.shared);
        self.chains.extend(rules.chains);
        self.sets.extend(rules.sets);
        self.udp.extend(rules.udp);
    }
}

fn needs_its_map(body: &[String]) -> bool {
    body.iter().any(|rule| rule.contains(" map @"))
}

/// Fronts whose backends are not what they were.
fn stale(
    before: BTreeMap<Front, BTreeSet<SocketAddr>>,
    after: BTreeMap<Front, BTreeSet<SocketAddr>>,
) -> BTreeMap<Front, BTreeSet<SocketAddr>> {
    let mut stale: BTreeMap<_, _> =
        before.keys().filter(|it| !after.contains_key(it)).map(|it| (*it, BTreeSet::new())).collect();
    stale.extend(after.into_iter().filter(|(front, now)| before.get(front) != Some(now)));
    stale
}
