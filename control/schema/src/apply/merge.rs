//! What is applied laid over what is there, and what is no longer applied taken away.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::conflict::ApplyError;
use super::path::Step;
use super::set::Set;
use super::shape::{Owned, Place, step_of};
use crate::types::Type;

/// `live` with everything that `intent` says.
pub(super) fn merge(ty: &Type, live: &Value, intent: &Value) -> Result<Value, ApplyError> {
    Ok(over(Place::Object(ty), live, intent))
}

fn over(place: Place<'_>, live: &Value, intent: &Value) -> Value {
    match (place.owned(), live, intent) {
        (Owned::Struct(ty), Value::Object(old), Value::Object(new)) => {
            maps(old, new, |name| ty.field(name).map(Place::Whole))
        }
        (Owned::Map(field), Value::Object(old), Value::Object(new)) => {
            maps(old, new, |_| Some(Place::Item(field)))
        }
        (owned @ (Owned::Keyed(field) | Owned::Set(field)), Value::Array(old), Value::Array(new)) => {
            Value::Array(lists(owned, Place::Item(field), old, new))
        }
        _ => intent.clone(),
    }
}

fn maps<'t>(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    place: impl Fn(&str) -> Option<Place<'t>>,
) -> Value {
    let mut all = old.clone();
    for (name, value) in new {
        let merged = match (old.get(name), place(name)) {
            (Some(old), Some(place)) => over(place, old, value),
            _ => value.clone(),
        };
        all.insert(name.clone(), merged);
    }
    Value::Object(all)
}

/// Items in the applier's order, with those that only live has where they stand among the others.
fn lists(owned: Owned<'_>, place: Place<'_>, old: &[Value], new: &[Value]) -> Vec<Value> {
    let steps =
        |list: &[Value]| -> Vec<Option<Step>> { list.iter().map(|it| step_of(owned, it).ok()).collect() };
    let (old_steps, new_steps) = (steps(old), steps(new));
    let by_step: BTreeMap<&Step, &Value> =
        old_steps.iter().zip(old).filter_map(|(step, item)| Some((step.as_ref()?, item))).collect();
    let mut all = Vec::with_capacity(old.len() + new.len());
    let mut next_old = 0;
    for (step, item) in new_steps.iter().zip(new) {
        let found = step.as_ref().and_then(|step| by_step.get(step));
        if found.is_some() {
            // live's own items that stand before this one come before it, unless they were passed already
            let until = old_steps.iter().position(|other| other == step).unwrap_or(next_old);
            while next_old < until {
                if !new_steps.contains(&old_steps[next_old]) {
                    all.push(old[next_old].clone());
                }
                next_old += 1;
            }
        }
        all.push(found.map_or_else(|| item.clone(), |live| over(place, live, item)));
    }
    for at in next_old..old.len() {
        if !new_steps.contains(&old_steps[at]) {
            all.push(old[at].clone());
        }
    }
    all
}

/// Takes away what `last` says was applied before and `managed` says nobody manages any more.
pub(super) fn prune(ty: &Type, value: &mut Value, last: &Set, managed: &Set) {
    trim(Place::Object(ty), value, last, managed);
}

fn trim(place: Place<'_>, value: &mut Value, last: &Set, managed: &Set) {
    let nothing = Set::default();
    let owned = place.owned();
    match (owned, value) {
        (Owned::Struct(_) | Owned::Map(_), Value::Object(map)) => {
            let is_struct = matches!(owned, Owned::Struct(_));
            map.retain(|name, value| {
                let step = Step::Field(name.clone());
                let inner = match owned {
                    Owned::Struct(ty) => ty.field(name).map(Place::Whole),
                    Owned::Map(field) => Some(Place::Item(field)),
                    _ => None,
                };
                // a struct's field is managed by whoever manages anything in it
                let is_managed = managed.has(&step) || is_struct && managed.below(&step).is_some();
                keep(inner, value, (last.has(&step), is_managed), last.below(&step), || {
                    managed.below(&step).unwrap_or(&nothing).clone()
                })
            });
        }
        (Owned::Keyed(field) | Owned::Set(field), Value::Array(list)) => {
            list.retain_mut(|item| {
                let Ok(step) = step_of(owned, item) else { return true };
                let flags = (last.has(&step), managed.has(&step));
                keep(Some(Place::Item(field)), item, flags, last.below(&step), || {
                    managed.below(&step).unwrap_or(&nothing).clone()
                })
            });
        }
        _ => {}
    }
}

/// Whether a child stays; it is trimmed inside first.
fn keep(
    place: Option<Place<'_>>,
    value: &mut Value,
    (was_applied, is_managed): (bool, bool),
    last: Option<&Set>,
    managed: impl FnOnce() -> Set,
) -> bool {
    if was_applied && !is_managed {
        return false;
    }
    let (Some(place), Some(last)) = (place, last) else { return true };
    let was_empty = is_empty(value);
    trim(place, value, last, &managed());
    was_empty || is_managed || !is_empty(value)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
