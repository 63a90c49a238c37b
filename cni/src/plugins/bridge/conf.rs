//! Options of `bridge`, checked.

use super::vlans::{Trunk, Vlans};
use crate::netlink::Mac;
use crate::plugins::Call;
use crate::plugins::masquerade::Backend;
use crate::spec::{CniError, Code};
use serde::Deserialize;

/// What the configuration asks for.
pub(super) struct Conf {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) masquerade: Option<Backend>,
    pub(super) mtu: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) promisc: bool,
    pub(super) enable_dad: bool,
    pub(super) isolated: bool,
    pub(super) container_up: bool,
    pub(super) vlans: Option<Vlans>,
    /// Frames with another's hardware address are dropped.
    pub(super) spoof_check: bool,
    /// The hardware address that the container asks for.
    pub(super) mac: Option<Mac>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<Trunk>>,
    preserve_default_vlan: Option<bool>,
    macspoofchk: bool,
    enabledad: bool,
    port_isolation: bool,
    disable_container_interface: bool,
    args: Option<Args>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    mac: Option<String>,
}

impl Conf {
    /// Reads and checks the configuration of a call.
    pub(super) fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let backend = Backend::parse(raw.ip_masq_backend.as_deref())?;
        let invalid = |msg: &str| Err(CniError::new(Code::InvalidConfig, msg));
        if raw.hairpin_mode && raw.promisc_mode {
            return invalid("hairpinMode and promiscMode exclude each other");
        }
        if raw.disable_container_interface && !call.common.ipam.kind.is_empty() {
            return invalid("disableContainerInterface leaves no place for the addresses that ipam asks for");
        }
        if raw.mtu > 65_535 {
            return invalid("mtu is larger than 65535");
        }
        let mac = call.wanted_mac(raw.args.and_then(|args| args.cni).and_then(|cni| cni.mac))?;
        Ok(Conf {
            bridge: raw.bridge.filter(|name| !name.is_empty()).unwrap_or_else(|| "cni0".into()),
            is_gateway: raw.is_gateway || raw.is_default_gateway,
            is_default_gateway: raw.is_default_gateway,
            force_address: raw.force_address,
            masquerade: raw.ip_masq.then_some(backend),
            mtu: Some(raw.mtu).filter(|mtu| *mtu > 0),
            hairpin: raw.hairpin_mode,
            promisc: raw.promisc_mode,
            enable_dad: raw.enabledad,
            isolated: raw.port_isolation,
            container_up: !raw.disable_container_interface,
            vlans: Vlans::read(
                raw.vlan,
                raw.vlan_trunk.as_deref().unwrap_or_default(),
                raw.preserve_default_vlan.unwrap_or(true),
            )?,
            spoof_check: raw.macspoofchk,
            mac,
        })
    }
}
