//! Masquerade by sets of our own nftables table.

use crate::address::Cidr;
use crate::netlink::nft::{Datum, Element, Expr, Family, Field, Hook, Rule, Set};
use crate::plugins::rules::{self, Part, Rules};
use crate::spec::{AttachmentId, CniError, Code, Explain};

/// Who is translated.
static MASQ4: Set = Set { name: "masq4", key: &[Field::Ipv4], value: &[], ranges: false };
static MASQ6: Set = Set { name: "masq6", key: &[Field::Ipv6], value: &[], ranges: false };
/// Pairs of container and its own network, which are not.
static NEAR4: Set = Set { name: "near4", key: &[Field::Ipv4, Field::Ipv4], value: &[], ranges: true };
static NEAR6: Set = Set { name: "near6", key: &[Field::Ipv6, Field::Ipv6], value: &[], ranges: true };
static SETS: [&Set; 4] = [&MASQ4, &MASQ6, &NEAR4, &NEAR6];
const CHAIN: &str = "pods_out";
static PART: Part = Part {
    family: Family::Inet,
    sets: &SETS,
    chains: &[(CHAIN, Some(Hook { kind: "nat", point: 4, priority: 100 }))],
    rules: rules_of_chain,
};

/// Begins to translate for these addresses, except towards their own networks.
pub(super) fn add(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let rules = Rules::open(&PART)?;
    let wanted: Vec<Element> = ips.iter().flat_map(|ip| elements(*ip, &owner)).collect();
    let loaded = rules.add(&wanted).or_else(|err| {
        // Left from an attachment in another network with the same address.
        if !err.is_exists() {
            return Err(err);
        }
        let ours = |element: &Element| {
            let addr = element.key();
            ips.iter().any(|ip| Some(ip.addr().to_string().as_str()) == addr.split(' ').next())
        };
        let _ = rules.remove(ours); // the load below says if it stayed
        rules.add(&wanted)
    });
    loaded.explain(Code::Network, || format!("masquerade for container {}", attachment.container_id))
}

/// Stops translating for an attachment; the way to the table is returned, for its end may have to wait.
pub(super) fn del(network: &str, attachment: &AttachmentId) -> Result<Rules, CniError> {
    let rules = Rules::open(&PART)?;
    rules.remove_of(&rules::owner(network, attachment))?;
    Ok(rules)
}

/// Is every address still translated?
pub(super) fn check(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    let owner = rules::owner(network, attachment);
    let found = Rules::open(&PART)?.elements()?;
    let lost = ips.iter().find(|ip| {
        let wanted = elements(**ip, &owner);
        !wanted.iter().all(|it| found.iter().any(|have| have.same_key(it) && have.comment == owner))
    });
    match lost {
        None => Ok(()),
        Some(ip) => {
            Err(CniError::new(Code::CheckFailed, format!("{} is not masqueraded any more", ip.addr())))
        }
    }
}

/// Stops translating for attachments that are gone.
pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    Rules::open(&PART)?.remove_invalid(network, valid).map(drop)
}

fn elements(ip: Cidr, owner: &str) -> [Element; 2] {
    let (masq, near) = if ip.is_ipv4() { (&MASQ4, &NEAR4) } else { (&MASQ6, &NEAR6) };
    let addr = Datum::Ip(ip.addr());
    let pair = [addr.clone(), Datum::Net(ip.network())];
    [Element::new(masq, &[addr], &[], owner), Element::new(near, &pair, &[], owner)]
}

fn rules_of_chain() -> Vec<Rule> {
    let mut all = Vec::new();
    for (ipv4, masq, near) in [(true, &MASQ4, &NEAR4), (false, &MASQ6, &NEAR6)] {
        let [family, is_it] = rules::only(ipv4);
        let mut steps = vec![
            family,
            is_it,
            rules::address(ipv4, true, 1),
            Expr::In(masq, 1),
            rules::address(ipv4, true, 1),
            rules::address(ipv4, false, rules::after(ipv4)),
            Expr::NotIn(near, 1),
        ];
        // Not to all of a group: 224.0.0.0/4, ff00::/8.
        if ipv4 {
            steps.extend([
                rules::address(true, false, 1),
                Expr::Mask(1, vec![0xf0, 0, 0, 0]),
                Expr::NotEqual(1, vec![0xe0, 0, 0, 0]),
            ]);
        } else {
            steps.extend([Expr::Network { offset: 24, length: 1, to: 1 }, Expr::NotEqual(1, vec![0xff])]);
        }
        steps.push(Expr::Masquerade);
        all.push(Rule::new(CHAIN, steps));
    }
    all
}
