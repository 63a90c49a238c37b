//! What plugins share in nftables: one table of ours, whose elements carry the attachment they belong to.

use crate::netlink::nft::{
    Batch, Element, Expr, Family, Hook, Rule, Selector, Set, are_there, elements as list,
};
use crate::netlink::{Netlink, NetlinkError};
use crate::spec::{AttachmentId, CniError, Code, Explain};

/// The one table that the plugins write to, in the families inet and bridge.
pub const TABLE: &str = "coracle_cni";

/// More changes than this are made in several transactions.
const AT_ONCE: usize = 200;

/// The comment on an element: a digest of the network's name, container, interface.
///
/// A comment has room for 128 bytes; a container's id of usual length stays readable.
pub(super) fn owner(network: &str, attachment: &AttachmentId) -> String {
    let id = &attachment.container_id;
    let id = if id.len() > 80 { format!("{:016x}", digest(id)) } else { id.clone() };
    format!("{}{id}/{}", network_prefix(network), attachment.ifname)
}

/// How the comments of all attachments of a network begin.
pub(super) fn network_prefix(network: &str) -> String {
    format!("{:016x}/", digest(network))
}

/// FNV-1a: names are not secret, they only have to be short.
pub(super) fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Removes all that the plugins put into nftables, of all attachments.
pub fn purge() -> Result<(), CniError> {
    let say = || format!("remove nftables table {TABLE}");
    let netlink = Netlink::open_netfilter().explain(Code::Network, say)?;
    for family in [Family::Inet, Family::Bridge] {
        let mut batch = Batch::new(family, TABLE);
        batch.delete_table();
        match batch.commit(&netlink) {
            Err(err) if err.is_not_found() || err.is_unsupported() => {}
            done => done.explain(Code::Network, say)?,
        }
    }
    Ok(())
}

/// A part of our table: what one plugin keeps there.
pub(super) struct Part {
    pub(super) family: Family,
    pub(super) sets: &'static [&'static Set],
    pub(super) chains: &'static [(&'static str, Option<Hook>)],
    pub(super) rules: fn() -> Vec<Rule>,
}

impl Part {
    /// The part without elements; making it again changes nothing.
    fn define(&self, batch: &mut Batch) {
        batch.table();
        for set in self.sets {
            batch.set(set);
        }
        for (name, hook) in self.chains {
            batch.chain(name, *hook).flush(name);
        }
        for rule in (self.rules)() {
            batch.rule(&rule);
        }
    }
}

/// A way to a part of our table.
///
/// The kernel makes a process that removed something wait at its end, until no packet can see it any more: this
/// costs more than all other work, so nothing is removed that need not be.
pub(super) struct Rules {
    netlink: Netlink,
    part: &'static Part,
}

impl Rules {
    /// Opens the way to `part`, in the calling thread's namespace.
    pub(super) fn open(part: &'static Part) -> Result<Rules, CniError> {
        let netlink = Netlink::open_netfilter().explain(Code::Network, || "talk to nf_tables".into())?;
        Ok(Rules { netlink, part })
    }

    /// Adds elements, in one transaction with whatever of the part is missing. One of a map that is there with
    /// another value is an error; one of a set is replaced: it was left by an ADD whose DEL never came.
    pub(super) fn add(&self, elements: &[Element]) -> Result<(), NetlinkError> {
        if self.is_defined()? {
            let mut batch = self.batch();
            for element in elements {
                batch.add_new(element);
            }
            match self.commit(batch) {
                Err(err) if err.is_exists() || err.is_not_found() => {}
                done => return done,
            }
        }
        let mut batch = self.batch();
        self.part.define(&mut batch);
        for element in elements {
            if element.set.value.is_empty() {
                batch.replace(element)
            } else {
                batch.add(element)
            };
        }
        self.commit(batch)
    }

    fn is_defined(&self) -> Result<bool, NetlinkError> {
        are_there(&self.netlink, self.at(), &(self.part.rules)())
    }

    fn at(&self) -> Selector<'static> {
        Selector { family: self.part.family, table: TABLE }
    }

    fn batch(&self) -> Batch {
        Batch::new(self.part.family, TABLE)
    }

    /// Makes the changes, all or none.
    fn commit(&self, batch: Batch) -> Result<(), NetlinkError> {
        batch.commit(&self.netlink)
    }

    /// The elements of the sets; none when the table is not there.
    pub(super) fn elements(&self) -> Result<Vec<Element>, CniError> {
        let mut all = Vec::new();
        for set in self.part.sets {
            let found = list(&self.netlink, self.at(), set);
            all.extend(found.explain(Code::Network, || format!("list nftables table {TABLE}"))?);
        }
        Ok(all)
    }

    /// Removes the elements that are picked; they are returned.
    pub(super) fn remove(&self, picked: impl Fn(&Element) -> bool) -> Result<Vec<Element>, CniError> {
        let gone: Vec<Element> = self.elements()?.into_iter().filter(picked).collect();
        for some in gone.chunks(AT_ONCE) {
            let mut batch = self.batch();
            for element in some {
                batch.delete(element);
            }
            match self.commit(batch) {
                // Another call has removed some of them meanwhile, so one transaction each.
                Err(err) if err.is_not_found() => self.remove_each(some)?,
                done => done.explain(Code::Network, || format!("clean nftables table {TABLE}"))?,
            }
        }
        Ok(gone)
    }

    /// Removes what an attachment owns.
    pub(super) fn remove_of(&self, owner: &str) -> Result<Vec<Element>, CniError> {
        self.remove(|element| element.comment == owner)
    }

    /// Removes what belongs to attachments of `network` that are not among `valid`.
    pub(super) fn remove_invalid(
        &self,
        network: &str,
        valid: &[AttachmentId],
    ) -> Result<Vec<Element>, CniError> {
        let prefix = network_prefix(network);
        let keep: Vec<String> = valid.iter().map(|attachment| owner(network, attachment)).collect();
        self.remove(|element| element.comment.starts_with(&prefix) && !keep.contains(&element.comment))
    }

    fn remove_each(&self, elements: &[Element]) -> Result<(), CniError> {
        for element in elements {
            let mut batch = self.batch();
            batch.delete(element);
            match self.commit(batch) {
                Err(err) if err.is_not_found() => {}
                done => done.explain(Code::Network, || format!("remove {element}"))?,
            }
        }
        Ok(())
    }
}

/// The steps that let only one IP family go on.
pub(super) fn only(ipv4: bool) -> [Expr; 2] {
    [Expr::NfProto(1), Expr::Equal(1, vec![if ipv4 { 2 } else { 10 }])]
}

/// The step that loads the source or destination address.
pub(super) fn address(ipv4: bool, source: bool, to: u32) -> Expr {
    let (offset, length) = match (ipv4, source) {
        (true, true) => (12, 4),
        (true, false) => (16, 4),
        (false, true) => (8, 16),
        (false, false) => (24, 16),
    };
    Expr::Network { offset, length, to }
}

/// The register after an address in the first one.
pub(super) fn after(ipv4: bool) -> u32 {
    if ipv4 { 9 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_fits_a_comment() {
        let long = AttachmentId { container_id: "c".repeat(300), ifname: "i".repeat(15) };
        assert!(owner(&"n".repeat(300), &long).len() <= 128);
        let short = AttachmentId { container_id: "abc".into(), ifname: "eth0".into() };
        assert!(owner("net", &short).ends_with("/abc/eth0"));
        assert!(owner("net", &short).starts_with(&network_prefix("net")));
    }
}
