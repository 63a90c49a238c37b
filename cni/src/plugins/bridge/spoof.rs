//! `macspoofchk`: frames from a container that do not have its own hardware address are dropped.

use crate::netlink::Mac;
use crate::netlink::nft::{Datum, Element, Expr, Family, Field, Hook, Rule, Set};
use crate::plugins::Call;
use crate::plugins::rules::{self, Part, Rules};
use crate::spec::{CniError, Code, Explain};

/// Ports whose frames are looked at.
static GUARDED: Set = Set { name: "guarded", key: &[Field::Ifname], value: &[], ranges: false };
/// Ports, each with the address of its container.
static OWN: Set = Set { name: "own_address", key: &[Field::Ifname, Field::Mac], value: &[], ranges: false };
const CHAIN: &str = "spoofed";
static PART: Part = Part {
    family: Family::Bridge,
    sets: &[&GUARDED, &OWN],
    chains: &[(CHAIN, Some(Hook { kind: "filter", point: 0, priority: -300 }))],
    rules: || {
        let steps = vec![
            Expr::InputName(1),
            Expr::In(&GUARDED, 1),
            Expr::InputName(1),
            Expr::Link { offset: 6, length: 6, to: 2 },
            Expr::NotIn(&OWN, 1),
            Expr::Drop,
        ];
        vec![Rule::new(CHAIN, steps)]
    },
};

/// Begins to look at what comes in by a port.
pub(super) fn add(call: &Call, port: &str, mac: Mac) -> Result<(), CniError> {
    let rules = Rules::open(&PART)?;
    let elements = elements(&owner(call), port, mac);
    rules.add(&elements).explain(Code::Network, || format!("let nobody but {mac} send through {port}"))
}

/// Stops looking.
pub(super) fn del(call: &Call) -> Result<(), CniError> {
    Rules::open(&PART)?.remove_of(&owner(call)).map(drop)
}

/// Is it looked at?
pub(super) fn check(call: &Call, port: &str, mac: Mac) -> Result<(), CniError> {
    let found = Rules::open(&PART)?.elements()?;
    match elements(&owner(call), port, mac).iter().find(|it| !found.iter().any(|have| have.same_key(it))) {
        None => Ok(()),
        Some(lost) => Err(CniError::new(Code::CheckFailed, format!("missing: {lost}"))),
    }
}

/// Removes what belongs to containers that are gone.
pub(super) fn gc(call: &Call) -> Result<(), CniError> {
    let valid = call.common.valid_attachments()?;
    Rules::open(&PART)?.remove_invalid(&call.common.name, valid).map(drop)
}

fn owner(call: &Call) -> String {
    rules::owner(&call.common.name, &call.attachment())
}

fn elements(owner: &str, port: &str, mac: Mac) -> [Element; 2] {
    let name = Datum::Ifname(port.to_owned());
    // The address first: a guarded port without one may send nothing.
    [
        Element::new(&OWN, &[name.clone(), Datum::Mac(mac)], &[], owner),
        Element::new(&GUARDED, &[name], &[], owner),
    ]
}
