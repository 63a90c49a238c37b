//! In which order the items of a merged list stand: the patch's items in the patch's order, the others where they
//! stood among those.

use serde_json::Value;

/// What tells items apart: a key of theirs, or they themselves.
pub(super) type Identity<'k> = Option<&'k str>;

/// The identity of an item.
pub(super) fn identity<'v>(item: &'v Value, key: Identity<'_>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// Where an item stands in a list.
pub(super) fn place(list: &[Value], item: &Value, key: Identity<'_>) -> Option<usize> {
    let wanted = identity(item, key)?;
    list.iter().position(|other| identity(other, key) == Some(wanted))
}

/// `merged`, put in order. `wanted`: the order asked for. `before`: the list as it was.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    key: Identity<'_>,
) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(wanted, item, key).is_some());
    named.sort_by_key(|item| place(wanted, item, key));
    others.sort_by_key(|item| place(before, item, key));
    let mut all = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(mine), Some(theirs)) = (named.peek(), others.peek()) {
        let stood = (place(before, theirs, key), place(before, mine, key));
        let theirs_first = matches!(stood, (Some(theirs), Some(mine)) if theirs < mine);
        all.extend(if theirs_first { others.next() } else { named.next() });
    }
    all.extend(named);
    all.extend(others);
    all
}
