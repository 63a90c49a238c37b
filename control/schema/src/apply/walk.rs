//! The paths of an object, and those of a change.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::conflict::ApplyError;
use super::path::Step;
use super::set::Set;
use super::shape::{MissingKey, Owned, Place, step_of};
use crate::json::{Zero, zero};
use crate::types::Type;

/// What an applier owns that sent this object.
pub(super) fn paths(ty: &Type, value: &Value) -> Result<Set, ApplyError> {
    let mut set = Set::default();
    below(Place::Object(ty), value, "", &mut set)?;
    Ok(set)
}

fn below(place: Place<'_>, value: &Value, at: &str, set: &mut Set) -> Result<(), ApplyError> {
    match (place.owned(), value) {
        (Owned::Struct(ty), Value::Object(map)) => {
            for (name, value) in map {
                let Some(field) = ty.field(name) else { continue };
                child(Place::Whole(field), Step::Field(name.clone()), value, at, set)?;
            }
        }
        (Owned::Map(field), Value::Object(map)) => {
            for (name, value) in map {
                set.insert(Step::Field(name.clone()));
                child(Place::Item(field), Step::Field(name.clone()), value, at, set)?;
            }
        }
        (owned @ (Owned::Keyed(field) | Owned::Set(field)), Value::Array(list)) => {
            for (place, item) in list.iter().enumerate() {
                let step = step_of(owned, item).map_err(|MissingKey(which)| {
                    ApplyError::Invalid(format!(
                        "{at}: element {place}: associative list with keys has an element that omits {which}"
                    ))
                })?;
                if set.has(&step) {
                    return Err(ApplyError::Invalid(format!("{at}: duplicate entries for key {step}")));
                }
                set.insert(step.clone());
                child(Place::Item(field), step, item, at, set)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn child(place: Place<'_>, step: Step, value: &Value, at: &str, set: &mut Set) -> Result<(), ApplyError> {
    let is_empty_map = value.as_object().is_some_and(Map::is_empty);
    if value.is_null() || is_empty_map || matches!(place.owned(), Owned::AsWhole) {
        set.insert(step);
        return Ok(());
    }
    let mut inner = Set::default();
    below(place, value, &format!("{at}{step}"), &mut inner)?;
    set.insert_below(step, inner);
    Ok(())
}

/// What changed between two states of an object.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Change {
    /// What has a new value.
    pub(super) fn set_or_added(&self) -> Set {
        self.added.union(&self.modified)
    }

    fn hang(&mut self, step: &Step, below: Change) {
        self.added.insert_below(step.clone(), below.added);
        self.modified.insert_below(step.clone(), below.modified);
        self.removed.insert_below(step.clone(), below.removed);
    }
}

/// What changed from `old` to `new`.
pub(super) fn compare(ty: &Type, old: &Value, new: &Value) -> Change {
    between(Place::Object(ty), Some(old), Some(new))
}

/// The changes below a place; `None`: nothing stands there.
fn between(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Change {
    let mut change = Change::default();
    match place.owned() {
        Owned::AsWhole => {}
        Owned::Struct(ty) => {
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            for name in names(old, new) {
                let Some(field) = ty.field(name) else { continue };
                // Go shows some absent fields all the same: they are there, only empty
                let shows = old.is_some() && !matches!(zero(field), Zero::Nothing);
                let (old, new) = (old.and_then(|it| it.get(name)), new.and_then(|it| it.get(name)));
                differ(&mut change, Place::Whole(field), Step::Field(name.clone()), (old, new), shows);
            }
        }
        Owned::Map(field) => {
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            for name in names(old, new) {
                let (old, new) = (old.and_then(|it| it.get(name)), new.and_then(|it| it.get(name)));
                differ(&mut change, Place::Item(field), Step::Field(name.clone()), (old, new), false);
            }
        }
        owned @ (Owned::Keyed(field) | Owned::Set(field)) => {
            let (old, new) = (items(owned, old), items(owned, new));
            for step in old.keys().chain(new.keys().filter(|step| !old.contains_key(step))) {
                let pair = (old.get(step).copied(), new.get(step).copied());
                differ(&mut change, Place::Item(field), step.clone(), pair, false);
            }
        }
    }
    change
}

fn differ(
    change: &mut Change,
    place: Place<'_>,
    step: Step,
    (old, new): (Option<&Value>, Option<&Value>),
    shows: bool,
) {
    if old == new {
        return;
    }
    let is_whole = matches!(place.owned(), Owned::AsWhole);
    match (old, new) {
        (None, Some(_)) if !shows || is_whole => change.added.insert(step.clone()),
        (Some(_), None) if !shows || is_whole => change.removed.insert(step.clone()),
        (Some(_), Some(_)) if is_whole => change.modified.insert(step.clone()),
        _ => {}
    }
    if !is_whole {
        let below = between(place, old, new);
        change.hang(&step, below);
    }
}

fn names<'v>(old: Option<&'v Map<String, Value>>, new: Option<&'v Map<String, Value>>) -> Vec<&'v String> {
    let mut names: Vec<&String> = old.into_iter().chain(new).flat_map(Map::keys).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The items of a list by their steps. Of two with the same keys the first counts; one without keys has no step.
fn items<'v>(owned: Owned<'_>, list: Option<&'v Value>) -> BTreeMap<Step, &'v Value> {
    let mut items = BTreeMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(step) = step_of(owned, item) {
            items.entry(step).or_insert(item);
        }
    }
    items
}
