//! Packets that leave a container's network take the host's address.
mod iptables; // by a chain of iptables for each container
mod nftables; // by sets of our own table

use super::rules::Rules;
use crate::address::Cidr;
use crate::spec::{AttachmentId, CniError, Code};

/// What the rules are written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backend {
    /// Our own table.
    Nftables,
    /// The table `nat` of iptables and ip6tables.
    Iptables,
}

impl Backend {
    /// Reads `ipMasqBackend`.
    pub(super) fn parse(text: Option<&str>) -> Result<Backend, CniError> {
        match text {
            None | Some("" | "nftables") => Ok(Backend::Nftables),
            Some("iptables") => Ok(Backend::Iptables),
            Some(other) => {
                Err(CniError::new(Code::InvalidConfig, format!("ipMasqBackend {other:?} is unknown"))
                    .details("one of nftables, iptables"))
            }
        }
    }
}

/// Begins to translate for these addresses, except towards their own networks.
pub(super) fn add(
    backend: Option<Backend>,
    network: &str,
    attachment: &AttachmentId,
    ips: &[Cidr],
) -> Result<(), CniError> {
    match backend {
        _ if ips.is_empty() => Ok(()),
        Some(Backend::Nftables) => nftables::add(network, attachment, ips),
        Some(Backend::Iptables) => iptables::add(network, attachment, ips),
        None => Ok(()),
    }
}

/// What is left to wait for: the end of this value takes until no packet sees the removed rules any more.
pub(super) struct Removed {
    _way: Option<Rules>,
}

/// Stops translating for an attachment.
pub(super) fn del(
    backend: Option<Backend>,
    network: &str,
    attachment: &AttachmentId,
) -> Result<Removed, CniError> {
    let way = match backend {
        Some(Backend::Nftables) => Some(nftables::del(network, attachment)?),
        Some(Backend::Iptables) => {
            iptables::del(network, attachment)?;
            None
        }
        None => None,
    };
    Ok(Removed { _way: way })
}

/// Is every address still translated?
pub(super) fn check(
    backend: Option<Backend>,
    network: &str,
    attachment: &AttachmentId,
    ips: &[Cidr],
) -> Result<(), CniError> {
    match backend {
        Some(Backend::Nftables) => nftables::check(network, attachment, ips),
        Some(Backend::Iptables) => iptables::check(network, attachment, ips),
        None => Ok(()),
    }
}

/// Stops translating for attachments that are gone.
pub(super) fn gc(backend: Option<Backend>, network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    match backend {
        Some(Backend::Nftables) => nftables::gc(network, valid),
        Some(Backend::Iptables) => iptables::gc(network, valid),
        None => Ok(()),
    }
}
