//! nf_tables without the `nft` tool: tables, chains, sets, rules and elements, one transaction a batch.
//!
//! Only what the plugins' own tables need. What is written here lists in `nft` as if `nft` had made it.
mod batch; // changes that the kernel makes together, or not at all
mod element; // what a set holds, and whose it is
mod expr; // one step of a rule
mod rule; // what a chain has, and whether it is what we would write
mod set; // sets and maps, and how their fields lie in memory

pub use batch::{Batch, Hook};
pub use element::{Element, Selector, elements};
pub use expr::Expr;
pub use rule::{OwnedRule, Rule, are_there, owned_rules};
pub use set::{Datum, Field, Set};

/// Which packets a table sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames that cross a bridge.
    Bridge,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Bridge => 7,
        }
    }
}

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;
const LIST_ITEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// A comment among an element's or a rule's own data.
const COMMENT: u8 = 0;

/// The header that all messages of nf_tables share.
fn header(family: Family) -> [u8; 4] {
    [family.number(), 0, 0, 0]
}
