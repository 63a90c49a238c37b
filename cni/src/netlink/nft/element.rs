//! What a set holds, and whose it is.

use super::set::{self, Datum, Field, Set};
use super::{COMMENT, DATA_VALUE, Family, GET_ELEMENT, LIST_ITEM, header};
use crate::netlink::message::{Message, attrs, find};
use crate::netlink::socket::{Netlink, NetlinkError};
use std::fmt;

const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
const KEY: u16 = 1;
const VALUE: u16 = 2;
const USER_DATA: u16 = 6;
const KEY_END: u16 = 10;

/// Where elements are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Selector<'a> {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: &'a str,
}

/// One element of a set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The set it is in.
    pub set: &'static Set,
    low: Vec<u8>,
    /// The end of what the key stands for, in sets of ranges.
    high: Option<Vec<u8>>,
    value: Vec<u8>,
    /// Whose it is.
    pub comment: String,
}

impl Element {
    /// An element for `set`; `value` is empty where the set is no map.
    pub fn new(set: &'static Set, key: &[Datum], value: &[Datum], comment: &str) -> Element {
        let (low, high) = set::encode(key);
        let high = set.ranges.then_some(high);
        Element { set, low, high, value: set::encode(value).0, comment: comment.to_owned() }
    }

    /// The key as `nft` writes it.
    pub fn key(&self) -> String {
        set::text(self.set.key, &self.low, self.high.as_deref())
    }

    /// The value as `nft` writes it.
    pub fn value(&self) -> String {
        set::text(self.set.value, &self.value, None)
    }

    /// True when both stand for the same key of the same set.
    pub fn same_key(&self, other: &Element) -> bool {
        self.set == other.set && self.low == other.low && self.high == other.high
    }

    /// The bytes of the first field of that kind in the key.
    pub fn field(&self, wanted: Field) -> Option<&[u8]> {
        set::split(self.set.key, &self.low).find(|(field, _)| *field == wanted).map(|(_, bytes)| bytes)
    }

    pub(super) fn write(&self, message: &mut Message, table: &str, whole: bool) {
        message.attr_text(TABLE, table).attr_text(SET, self.set.name);
        message.nest(ELEMENTS, &[], |list| {
            list.nest(LIST_ITEM, &[], |item| {
                item.nest(KEY, &[], |key| {
                    key.attr(DATA_VALUE, &self.low);
                });
                if let Some(high) = &self.high {
                    item.nest(KEY_END, &[], |key| {
                        key.attr(DATA_VALUE, high);
                    });
                }
                if !whole {
                    return;
                }
                if !self.value.is_empty() {
                    item.nest(VALUE, &[], |value| {
                        value.attr(DATA_VALUE, &self.value);
                    });
                }
                if !self.comment.is_empty() {
                    item.attr(USER_DATA, &comment(&self.comment));
                }
            });
        });
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in nftables set {}", self.key(), self.set.name)
    }
}

/// A comment as `nft` keeps it: kind, length, text, a zero byte.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(128)];
    let mut bytes = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

pub(super) fn comment_of(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        data = &rest[usize::from(*length)..];
    }
    None
}

/// The elements of a set; none when the set or its table is not there.
pub fn elements(
    netlink: &Netlink,
    at: Selector<'_>,
    set: &'static Set,
) -> Result<Vec<Element>, NetlinkError> {
    let message = || {
        let mut message = Message::new(GET_ELEMENT, 0, &header(at.family));
        message.attr_text(TABLE, at.table).attr_text(SET, set.name);
        message
    };
    let read = |body: &[u8]| {
        let items = attrs(find(body.get(4..)?, ELEMENTS)?).filter(|it| it.0 == LIST_ITEM);
        Some(items.filter_map(|(_, item)| read(set, item)).collect::<Vec<_>>())
    };
    match netlink.dump(message, || format!("list nftables set {} of table {}", set.name, at.table), read) {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        Err(err) if err.is_not_found() => Ok(vec![]),
        Err(err) => Err(err),
    }
}

fn read(set: &'static Set, item: &[u8]) -> Option<Element> {
    let data = |kind| find(item, kind).and_then(|it| find(it, DATA_VALUE)).map(<[u8]>::to_vec);
    Some(Element {
        set,
        low: data(KEY)?,
        high: data(KEY_END),
        value: data(VALUE).unwrap_or_default(),
        comment: find(item, USER_DATA).and_then(comment_of).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_are_those_of_nft() {
        assert_eq!(comment("a/b"), b"\x00\x04a/b\x00");
        assert_eq!(comment_of(b"\x01\x01x\x00\x04a/b\x00").as_deref(), Some("a/b"));
        assert_eq!(comment_of(b"\x00\x09a/b"), None, "cut short");
    }

    proptest! {
        #[test]
        fn any_user_data_ends(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = comment_of(&bytes);
        }
    }
}
