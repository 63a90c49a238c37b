//! The entries of `metadata.managedFields`.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::set::Set;

/// More managers that update than this are folded into one.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Who manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: String,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: String,
}

impl Entry {
    pub(super) fn new(
        manager: &str,
        operation: &str,
        api_version: &str,
        subresource: &str,
        time: &str,
    ) -> Self {
        Self {
            manager: manager.to_owned(),
            operation: operation.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: time.to_owned(),
        }
    }

    /// Whether both are entries of one manager. An applier is the same in every version of the API.
    fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == "Apply" || self.api_version == other.api_version)
    }

    fn read(value: &Value) -> Option<(Self, Set)> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let entry = Self::new(
            text("manager"),
            text("operation"),
            text("apiVersion"),
            text("subresource"),
            text("time"),
        );
        let set = value.get("fieldsV1").map_or_else(|| Some(Set::default()), Set::read)?;
        Some((entry, set))
    }

    fn write(&self, set: &Set) -> Value {
        let mut map = Map::new();
        for (name, text) in [
            ("manager", &self.manager),
            ("operation", &self.operation),
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
            ("time", &self.time),
        ] {
            if !text.is_empty() {
                map.insert(name.into(), Value::String(text.clone()));
            }
        }
        map.insert("fieldsType".into(), json!("FieldsV1"));
        map.insert("fieldsV1".into(), set.write());
        Value::Object(map)
    }

    /// The order in which entries are kept: appliers first, then by time.
    fn order(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| {
            let Self { manager, operation, api_version, subresource, time } = entry.clone();
            (operation, time, manager, api_version, subresource)
        };
        key(self).cmp(&key(other))
    }
}

/// All entries of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Managed {
    entries: Vec<(Entry, Set)>,
}

impl Managed {
    /// `None` when an entry makes no sense.
    pub(super) fn read(entries: &[Value]) -> Option<Self> {
        let entries: Option<Vec<_>> = entries.iter().map(Entry::read).collect();
        Some(Self { entries: entries? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn set(&self, who: &Entry) -> Option<&Set> {
        self.entries.iter().find(|(entry, _)| entry.is_same(who)).map(|(_, set)| set)
    }

    /// Gives `who` this set; an empty one ends its entry.
    pub(super) fn replace(&mut self, who: Entry, set: Set) {
        let old = self.entries.iter().position(|(entry, _)| entry.is_same(&who));
        let time = old.map(|at| self.entries.remove(at).0.time);
        if !set.is_empty() {
            let entry = Entry { time: time.unwrap_or_else(|| who.time.clone()), ..who };
            self.entries.push((entry, set));
        }
    }

    /// Sets the time of an entry.
    pub(super) fn stamp(&mut self, who: &Entry, now: &str) {
        for (entry, _) in self.entries.iter_mut().filter(|(entry, _)| entry.is_same(who)) {
            now.clone_into(&mut entry.time);
        }
    }

    /// What anybody manages.
    pub(super) fn union(&self) -> Set {
        self.entries.iter().fold(Set::default(), |all, (_, set)| all.union(set))
    }

    /// What others than `who` manage of `fields`.
    pub(super) fn others(&self, who: &Entry, fields: &Set) -> Vec<(Entry, Set)> {
        let others = self.entries.iter().filter(|(entry, _)| !entry.is_same(who));
        others
            .map(|(entry, set)| (entry.clone(), set.intersection(fields)))
            .filter(|(_, set)| !set.is_empty())
            .collect()
    }

    /// Takes `fields` from everybody but `who`.
    pub(super) fn give_up(&mut self, who: &Entry, fields: &Set) {
        for (entry, set) in &mut self.entries {
            if !entry.is_same(who) {
                *set = set.difference(fields);
            }
        }
        self.entries.retain(|(_, set)| !set.is_empty());
    }

    /// Takes fields that are gone from everybody but `who`.
    pub(super) fn forget(&mut self, who: &Entry, fields: &Set) {
        self.give_up(who, fields);
    }

    /// Folds the oldest updaters into one, so that the list does not grow without end.
    pub(super) fn cap_updates(&mut self) {
        let is_update = |(entry, _): &(Entry, Set)| entry.operation == "Update";
        let mut excess =
            self.entries.iter().filter(|it| is_update(it)).count().saturating_sub(MAX_UPDATE_MANAGERS);
        if excess == 0 {
            return;
        }
        self.entries.sort_by(|(left, _), (right, _)| left.order(right));
        excess += 1; // the one they are folded into counts too
        let (mut kept, mut folded): (Vec<_>, Vec<(Entry, Set)>) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.entries) {
            if is_update(&entry) && excess > 0 {
                excess -= 1;
                let (mut who, set) = entry;
                ANCIENT.clone_into(&mut who.manager);
                match folded.iter_mut().find(|(other, _)| other.is_same(&who)) {
                    Some((other, all)) => {
                        *all = all.union(&set);
                        other.time = who.time;
                    }
                    None => folded.push((who, set)),
                }
            } else {
                kept.push(entry);
            }
        }
        kept.append(&mut folded);
        self.entries = kept;
    }

    pub(super) fn write(mut self) -> Vec<Value> {
        self.entries.sort_by(|(left, _), (right, _)| left.order(right));
        self.entries.iter().map(|(entry, set)| entry.write(set)).collect()
    }
}

/// The entries of an object.
pub(super) fn get(object: &Value) -> &[Value] {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Takes the entries out of an object.
pub(super) fn take(object: &mut Value) -> Vec<Value> {
    let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
    match meta.and_then(|meta| meta.remove("managedFields")) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

/// Puts entries into an object.
pub(super) fn put(object: &mut Value, entries: Vec<Value>) {
    if let (Some(object), false) = (object.as_object_mut(), entries.is_empty()) {
        let meta = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("managedFields".into(), Value::Array(entries));
        }
    }
}
