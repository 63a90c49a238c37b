//! Changes that the kernel makes together, or not at all.

use super::element::Element;
use super::rule::{OwnedRule, Rule};
use super::set::Set;
use super::{
    DEL_ELEMENT, DEL_RULE, DEL_TABLE, Family, LIST_ITEM, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET,
    NEW_TABLE, header,
};
use crate::netlink::message::Message;
use crate::netlink::socket::{Netlink, NetlinkError};

const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const APPEND: u16 = 0x800;
const OF_TABLE: u16 = 1;

/// Where a chain hangs in the packet's way.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// The number of the hook: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub point: u32,
    /// The lower, the earlier.
    pub priority: i32,
}

/// Changes to one table, collected until they are committed.
pub struct Batch {
    family: Family,
    table: String,
    /// Each message, and what it does.
    messages: Vec<(Message, String)>,
}

impl Batch {
    /// A batch that changes an existing table.
    pub fn new(family: Family, table: &str) -> Batch {
        Batch { family, table: table.to_owned(), messages: Vec::new() }
    }

    /// Makes the table; there already is fine.
    pub fn table(&mut self) -> &mut Batch {
        let say = format!("create nftables table {}", self.table);
        self.push(NEW_TABLE, CREATE, say, |message| {
            message.attr(2, &[0; 4]);
        })
    }

    /// Removes the table and all in it.
    pub fn delete_table(&mut self) -> &mut Batch {
        let say = format!("delete nftables table {}", self.table);
        self.push(DEL_TABLE, 0, say, |_| {})
    }

    /// Makes a set; the same one there already is fine.
    pub fn set(&mut self, set: &Set) -> &mut Batch {
        let id = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.push(NEW_SET, CREATE, format!("create nftables set {}", set.name), |message| {
            let number = |message: &mut Message, kind, value: u32| {
                message.attr(kind, &value.to_be_bytes());
            };
            message.attr_text(2, set.name);
            number(message, 3, set.flags());
            number(message, 4, Set::kind(set.key));
            number(message, 5, Set::length(set.key));
            if !set.value.is_empty() {
                number(message, 6, Set::kind(set.value));
                number(message, 7, Set::length(set.value));
            }
            number(message, 10, id);
            if set.ranges {
                message.nest(9, &[], |description| {
                    description.nest(2, &[], |fields| {
                        for length in set.field_lengths() {
                            fields.nest(LIST_ITEM, &[], |field| {
                                field.attr(1, &length.to_be_bytes());
                            });
                        }
                    });
                });
            }
        })
    }

    /// Makes a chain; there already is fine. Without a hook it is one to jump to.
    pub fn chain(&mut self, name: &str, hook: Option<Hook>) -> &mut Batch {
        self.push(NEW_CHAIN, CREATE, format!("create nftables chain {name}"), |message| {
            message.attr_text(3, name);
            let Some(hook) = hook else { return };
            message.attr_text(7, hook.kind).attr(5, &1_u32.to_be_bytes());
            message.nest(4, &[], |inner| {
                inner.attr(1, &hook.point.to_be_bytes()).attr(2, &hook.priority.to_be_bytes());
            });
        })
    }

    /// Removes all rules of a chain.
    pub fn flush(&mut self, chain: &str) -> &mut Batch {
        self.push(DEL_RULE, 0, format!("flush nftables chain {chain}"), |message| {
            message.attr_text(2, chain);
        })
    }

    /// Appends a rule.
    pub fn rule(&mut self, rule: &Rule) -> &mut Batch {
        let say = format!("add a rule to nftables chain {}", rule.chain);
        self.push(NEW_RULE, CREATE | APPEND, say, |message| rule.write(message))
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, rule: &OwnedRule) -> &mut Batch {
        let say = format!("remove a rule from nftables chain {}", rule.chain);
        self.push(DEL_RULE, 0, say, |message| {
            message.attr_text(2, &rule.chain).attr(3, &rule.handle);
        })
    }

    /// Adds an element; any with the same key there already is an error.
    pub fn add_new(&mut self, element: &Element) -> &mut Batch {
        self.element(NEW_ELEMENT, CREATE | EXCLUSIVE, format!("add {element}"), element, true)
    }

    /// Adds an element; the same one there already is fine, and keeps its comment.
    pub fn add(&mut self, element: &Element) -> &mut Batch {
        self.element(NEW_ELEMENT, CREATE, format!("add {element}"), element, true)
    }

    /// Removes an element.
    pub fn delete(&mut self, element: &Element) -> &mut Batch {
        self.element(DEL_ELEMENT, 0, format!("remove {element}"), element, false)
    }

    /// Adds an element in place of one with the same key, whosever that is.
    pub fn replace(&mut self, element: &Element) -> &mut Batch {
        self.add(element).delete(element).add(element)
    }

    /// True when nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes all changes, or none: the error names the first that the kernel refused.
    pub fn commit(self, netlink: &Netlink) -> Result<(), NetlinkError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let table = self.table;
        let (messages, said): (Vec<_>, Vec<_>) = self.messages.into_iter().unzip();
        netlink.transact(messages).map_err(|(number, errno)| {
            let action = number.and_then(|it| said.get(it).cloned());
            NetlinkError::from_errno(
                action.unwrap_or_else(|| format!("change nftables table {table}")),
                errno,
            )
        })
    }

    fn element(&mut self, kind: u16, flags: u16, say: String, element: &Element, whole: bool) -> &mut Batch {
        let mut message = Message::new(kind, flags, &header(self.family));
        element.write(&mut message, &self.table, whole);
        self.messages.push((message, say));
        self
    }

    fn push(&mut self, kind: u16, flags: u16, say: String, fill: impl FnOnce(&mut Message)) -> &mut Batch {
        let mut message = Message::new(kind, flags, &header(self.family));
        message.attr_text(OF_TABLE, &self.table);
        fill(&mut message);
        self.messages.push((message, say));
        self
    }
}
