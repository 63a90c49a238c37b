//! Rules of routing: which table for which packets.

use super::addr::family;
use super::message::{Message, find, ip_bytes, ip_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use crate::address::Cidr;

const NEW_RULE: u16 = 32;
const DEL_RULE: u16 = 33;
const GET_RULE: u16 = 34;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const SOURCE: u16 = 2;
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;
const TO_TABLE: u8 = 1;

/// Packets from some addresses are routed by a table of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSpec {
    /// Where packets come from.
    pub source: Cidr,
    /// The table.
    pub table: u32,
    /// The smaller, the earlier; the kernel's choice when absent.
    pub priority: Option<u32>,
}

impl Netlink {
    /// Adds a rule; the same one there already is an error.
    pub fn add_rule(&self, rule: &RuleSpec) -> Result<(), NetlinkError> {
        self.change(write(NEW_RULE, CREATE | EXCLUSIVE, rule), || {
            format!("route packets from {} by table {}", rule.source, rule.table)
        })
    }

    /// Removes a rule.
    pub fn delete_rule(&self, rule: &RuleSpec) -> Result<(), NetlinkError> {
        self.change(write(DEL_RULE, 0, rule), || format!("remove the rule for packets from {}", rule.source))
    }

    /// The rules with a source and a table, of both families.
    pub fn rules(&self) -> Result<Vec<RuleSpec>, NetlinkError> {
        self.dump(|| Message::new(GET_RULE, 0, &[0; 12]), || "list routing rules".into(), read)
    }
}

fn write(kind: u16, flags: u16, rule: &RuleSpec) -> Message {
    let short_table = u8::try_from(rule.table).unwrap_or(0);
    let fixed = [family(rule.source), 0, rule.source.prefix(), 0, short_table, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut message = Message::new(kind, flags, &fixed);
    message.attr(SOURCE, &ip_bytes(rule.source.network().addr())).attr_u32(TABLE, rule.table);
    if let Some(priority) = rule.priority {
        message.attr_u32(PRIORITY, priority);
    }
    message
}

fn read(body: &[u8]) -> Option<RuleSpec> {
    let (fixed, attributes) = body.split_at_checked(12)?;
    let source = find(attributes, SOURCE).and_then(ip_of)?;
    Some(RuleSpec {
        source: Cidr::new(source, fixed[2]).ok()?,
        table: find(attributes, TABLE).and_then(u32_of).unwrap_or_else(|| fixed[4].into()),
        priority: find(attributes, PRIORITY).and_then(u32_of),
    })
}
