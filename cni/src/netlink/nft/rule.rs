//! What a chain has, and whether it is what we would write.

use super::element::{Selector, comment_of};
use super::expr::Expr;
use super::{GET_RULE, header};
use crate::netlink::message::{Message, find, text_of};
use crate::netlink::socket::{Netlink, NetlinkError};

const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const USER_DATA: u16 = 7;
/// A kind of user data that `nft` does not know, and does not show.
const FINGERPRINT: u8 = 0x63;

/// A rule to be.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The chain it is in.
    pub chain: &'static str,
    /// Its steps.
    pub steps: Vec<Expr>,
}

impl Rule {
    /// A rule for `chain`.
    pub fn new(chain: &'static str, steps: Vec<Expr>) -> Rule {
        Rule { chain, steps }
    }

    pub(super) fn write(&self, message: &mut Message) {
        message.attr_text(CHAIN, self.chain);
        let from = message.len();
        message.nest(EXPRESSIONS, &[], |list| self.steps.iter().for_each(|step| step.write(list)));
        let print = fingerprint(message.since(from));
        message.attr(USER_DATA, &[[FINGERPRINT, 8].as_slice(), &print.to_be_bytes()].concat());
    }

    fn fingerprint(&self) -> u64 {
        let mut message = Message::new(0, 0, &[]);
        let from = message.len();
        message.nest(EXPRESSIONS, &[], |list| self.steps.iter().for_each(|step| step.write(list)));
        fingerprint(message.since(from))
    }
}

/// A rule that says whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRule {
    /// The chain it is in.
    pub chain: String,
    /// The kernel's name for it.
    pub(super) handle: Vec<u8>,
    /// Whose it is.
    pub comment: String,
}

/// The rules of a table that have comments; none when the table is not there.
pub fn owned_rules(netlink: &Netlink, at: Selector<'_>) -> Result<Vec<OwnedRule>, NetlinkError> {
    let read = |attributes: &[u8]| {
        Some(OwnedRule {
            chain: find(attributes, CHAIN).map(text_of)?,
            handle: find(attributes, HANDLE)?.to_vec(),
            comment: find(attributes, USER_DATA).and_then(comment_of)?,
        })
    };
    list(netlink, at, read)
}

fn list<T>(
    netlink: &Netlink,
    at: Selector<'_>,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let message = || {
        let mut message = Message::new(GET_RULE, 0, &header(at.family));
        message.attr_text(TABLE, at.table);
        message
    };
    let read = |body: &[u8]| {
        let attributes = body.get(4..)?;
        // The kernel may list other tables too.
        let ours =
            find(attributes, TABLE).map(text_of)? == at.table && body.first() == Some(&header(at.family)[0]);
        if ours { read(attributes) } else { None }
    };
    match netlink.dump(message, || format!("list rules of nftables table {}", at.table), read) {
        Err(err) if err.is_not_found() => Ok(vec![]),
        found => found,
    }
}

/// True when the chains of `wanted` hold these rules in this order, as we wrote them, and no others.
pub fn are_there(netlink: &Netlink, at: Selector<'_>, wanted: &[Rule]) -> Result<bool, NetlinkError> {
    let read = |attributes: &[u8]| {
        let print = match find(attributes, USER_DATA) {
            Some([FINGERPRINT, 8, print @ ..]) => print.try_into().ok().map(u64::from_be_bytes),
            _ => None,
        };
        Some((find(attributes, CHAIN).map(text_of)?, print))
    };
    let found = list(netlink, at, read)?;
    let mut chains: Vec<&str> = wanted.iter().map(|rule| rule.chain).collect();
    chains.sort_unstable();
    chains.dedup();
    Ok(chains.into_iter().all(|chain| {
        let have = found.iter().filter(|it| it.0 == chain).map(|it| it.1);
        let want = wanted.iter().filter(|it| it.chain == chain).map(|it| Some(it.fingerprint()));
        have.eq(want)
    }))
}

/// FNV-1a: it has to tell our own rules of one version from those of another.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
