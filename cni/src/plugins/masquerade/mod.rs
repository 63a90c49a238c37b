//! Packets that leave a container's network take the host's address.
mod nftables; // by sets of our own table

use crate::address::Cidr;
use crate::spec::{AttachmentId, CniError};

/// Begins to translate for these addresses, except towards their own networks.
pub(super) fn add(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    nftables::add(network, attachment, ips)
}

/// Stops translating for an attachment.
pub(super) fn del(network: &str, attachment: &AttachmentId) -> Result<(), CniError> {
    nftables::del(network, attachment)
}

/// Is every address still translated?
pub(super) fn check(network: &str, attachment: &AttachmentId, ips: &[Cidr]) -> Result<(), CniError> {
    nftables::check(network, attachment, ips)
}

/// Stops translating for attachments that are gone.
pub(super) fn gc(network: &str, valid: &[AttachmentId]) -> Result<(), CniError> {
    nftables::gc(network, valid)
}
