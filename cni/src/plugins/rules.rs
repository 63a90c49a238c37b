//! What plugins share in nftables: one table of ours, whose elements carry the attachment they belong to.

use crate::nft::{self, NftError};
use crate::spec::{AttachmentId, CniError, Code, Explain};
use serde_json::Value;

/// The one table that the plugins write to.
pub const TABLE: &str = "coracle_cni";

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

/// One element as nft lists it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// The set or map it is in.
    pub(super) set: String,
    /// Its key, as nft reads it.
    pub(super) key: String,
    /// The comment.
    pub(super) owner: String,
}

/// The owned elements of these sets and maps; none when the table is not there.
pub(super) fn elements(sets: &[&str]) -> Result<Vec<Element>, CniError> {
    let listed = match nft::list(&["table", "inet", TABLE]) {
        Err(err) if err.is_not_found() => return Ok(vec![]),
        listed => listed.explain(Code::Network, || format!("list nftables table {TABLE}"))?,
    };
    Ok(parse(&listed).into_iter().filter(|element| sets.contains(&element.set.as_str())).collect())
}

/// Removes the elements whose owner is picked.
pub(super) fn remove(sets: &[&str], picked: impl Fn(&str) -> bool) -> Result<Vec<Element>, CniError> {
    let gone: Vec<Element> = elements(sets)?.into_iter().filter(|element| picked(&element.owner)).collect();
    let delete =
        |element: &Element| format!("delete element inet {TABLE} {} {{ {} }}\n", element.set, element.key);
    if gone.is_empty() || nft::apply(&gone.iter().map(delete).collect::<String>()).is_ok() {
        return Ok(gone);
    }
    for element in &gone {
        // Another call has removed some of them meanwhile, so one transaction each.
        match nft::apply(&delete(element)) {
            Err(err) if err.is_not_found() => {}
            done => done.explain(Code::Network, || {
                format!("remove {} from nftables set {}", element.key, element.set)
            })?,
        }
    }
    Ok(gone)
}

/// Removes what belongs to attachments of `network` that are not among `valid`.
pub(super) fn remove_invalid(
    sets: &[&str],
    network: &str,
    valid: &[AttachmentId],
) -> Result<Vec<Element>, CniError> {
    let prefix = network_prefix(network);
    let keep: Vec<String> = valid.iter().map(|attachment| owner(network, attachment)).collect();
    remove(sets, |owner| owner.starts_with(&prefix) && !keep.iter().any(|it| it == owner))
}

/// Adds elements; what an attachment without DEL left under the same key is replaced.
pub(super) fn add_text(set: &str, key: &str, value: Option<&str>, owner: &str) -> String {
    let value = value.map(|it| format!(" : {it}")).unwrap_or_default();
    format!("add element inet {TABLE} {set} {{ {key} comment \"{owner}\"{value} }}\n")
}

/// As [`add_text`], after removing the same key: an element that exists keeps its old comment otherwise.
pub(super) fn replace_text(set: &str, key: &str, owner: &str) -> String {
    let at = format!("element inet {TABLE} {set} {{ {key} }}\n");
    format!("add {at}delete {at}{}", add_text(set, key, None, owner))
}

/// Loads text that begins with the definitions, so that the table need not be there before.
pub(super) fn load(definitions: &str, elements: &str) -> Result<(), NftError> {
    nft::apply(&format!("{definitions}{elements}"))
}

fn parse(listed: &Value) -> Vec<Element> {
    let mut found = Vec::new();
    for object in listed["nftables"].as_array().into_iter().flatten() {
        let Some(set) = object.get("map").or_else(|| object.get("set")) else { continue };
        let name = set["name"].as_str().unwrap_or_default();
        for entry in set["elem"].as_array().into_iter().flatten() {
            let key = if entry.is_array() { &entry[0]["elem"] } else { &entry["elem"] };
            if let (Some(owner), Some(key)) = (key["comment"].as_str(), text(&key["val"])) {
                found.push(Element { set: name.to_owned(), key, owner: owner.to_owned() });
            }
        }
    }
    found
}

fn text(value: &Value) -> Option<String> {
    if let Some(parts) = value["concat"].as_array() {
        return Some(parts.iter().map(text).collect::<Option<Vec<_>>>()?.join(" . "));
    }
    if let Some(prefix) = value.get("prefix") {
        return Some(format!("{}/{}", text(&prefix["addr"])?, prefix["len"]));
    }
    value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_elements_of_sets_and_maps() {
        let listed = json!({"nftables": [
            {"metainfo": {}},
            {"set": {"name": "s", "elem": [
                {"elem": {"val": {"concat": ["10.1.0.5", {"prefix": {"addr": "10.1.0.0", "len": 24}}]}, "comment": "a"}},
                "10.9.9.9"]}},
            {"map": {"name": "m", "elem": [
                [{"elem": {"val": {"concat": ["tcp", 80]}, "comment": "b"}}, {"concat": ["10.1.0.5", 8080]}]]}}]});
        let element = |set: &str, key: &str, owner: &str| Element {
            set: set.into(),
            key: key.into(),
            owner: owner.into(),
        };
        assert_eq!(
            parse(&listed),
            [element("s", "10.1.0.5 . 10.1.0.0/24", "a"), element("m", "tcp . 80", "b")]
        );
    }

    #[test]
    fn an_owner_fits_a_comment() {
        let long = AttachmentId { container_id: "c".repeat(300), ifname: "i".repeat(15) };
        assert!(owner(&"n".repeat(300), &long).len() <= 128);
        let short = AttachmentId { container_id: "abc".into(), ifname: "eth0".into() };
        assert!(owner("net", &short).ends_with("/abc/eth0"));
        assert!(owner("net", &short).starts_with(&network_prefix("net")));
    }
}
