//! Mappings, checked.

use crate::plugins::Call;
use crate::spec::{CniError, Code, PortMapping, Protocol};
use serde::Deserialize;
use std::net::IpAddr;

const MARK_BIT: u8 = 13;

/// What the configuration asks for.
pub(super) struct Conf {
    pub(super) mappings: Vec<Mapping>,
    /// The host itself and the container may use the mapping too.
    pub(super) snat: bool,
    /// The container sees the host's address, whoever comes.
    pub(super) masquerade_all: bool,
    /// The rules are those of iptables.
    pub(super) iptables: bool,
    /// The bit that marks packets to be masqueraded, by iptables.
    mark_bit: u8,
    /// Somebody else's chain that marks packets to be masqueraded, by iptables.
    pub(super) mark_chain: Option<String>,
    /// More that must be true of a packet, in the language of the backend.
    pub(super) conditions_v4: Vec<String>,
    pub(super) conditions_v6: Vec<String>,
}

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    pub(super) protocol: Protocol,
    pub(super) host_port: u16,
    pub(super) container_port: u16,
    pub(super) host: Host,
}

/// Which addresses of the host lead to the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Host {
    /// All.
    Any,
    /// All of one family.
    AnyV4,
    /// All of the other family.
    AnyV6,
    /// This one.
    One(IpAddr),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    snat: Option<bool>,
    #[serde(rename = "masqAll")]
    masq_all: bool,
    backend: Option<String>,
    #[serde(rename = "markMasqBit")]
    mark_masq_bit: Option<u8>,
    #[serde(rename = "externalSetMarkChain")]
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
}

impl Conf {
    /// Reads and checks the configuration of a call.
    pub(super) fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let invalid = |msg: String| Err(CniError::new(Code::InvalidConfig, format!("portmap: {msg}")));
        let iptables = match raw.backend.as_deref() {
            None | Some("" | "nftables") => false,
            Some("iptables") => true,
            Some(other) => return invalid(format!("backend {other:?} is not one of nftables, iptables")),
        };
        let mark_chain = raw.external_set_mark_chain.filter(|it| !it.is_empty());
        if raw.mark_masq_bit.is_some() && mark_chain.is_some() {
            return invalid("markMasqBit and externalSetMarkChain exclude each other".into());
        }
        let mark_bit = raw.mark_masq_bit.unwrap_or(MARK_BIT);
        if mark_bit > 31 {
            return invalid(format!("markMasqBit {mark_bit} is not from 0 to 31"));
        }
        if mark_chain.is_some() && !iptables {
            return invalid("externalSetMarkChain is for the backend iptables".into());
        }
        let lists = [raw.conditions_v4.unwrap_or_default(), raw.conditions_v6.unwrap_or_default()];
        if lists.iter().flatten().any(|it| it.contains(['\n', ';', '{', '}'])) {
            return invalid("a condition must be part of one rule".into());
        }
        let [conditions_v4, conditions_v6] = lists;
        let mappings = call.common.runtime_config.port_mappings.iter().filter(|it| it.host_port > 0);
        Ok(Conf {
            mappings: mappings.map(mapping).collect::<Result<_, _>>()?,
            snat: raw.snat.unwrap_or(true),
            masquerade_all: raw.masq_all,
            iptables,
            mark_bit,
            mark_chain,
            conditions_v4,
            conditions_v6,
        })
    }

    /// The host's UDP ports.
    pub(super) fn udp_ports(&self) -> Vec<u16> {
        let udp = self.mappings.iter().filter(|it| it.protocol == Protocol::Udp);
        udp.map(|it| it.host_port).collect()
    }

    /// The mark of packets to be masqueraded.
    pub(super) fn mark(&self) -> u32 {
        1 << self.mark_bit
    }

    /// True when nftables has to look at more than ports.
    pub(super) fn is_conditional(&self) -> bool {
        let some = !self.conditions_v4.is_empty() || !self.conditions_v6.is_empty();
        some && !self.iptables
    }

    #[cfg(test)]
    pub(super) fn of(mapping: Mapping) -> Conf {
        Conf {
            mappings: vec![mapping],
            snat: true,
            masquerade_all: false,
            iptables: false,
            mark_bit: MARK_BIT,
            mark_chain: None,
            conditions_v4: vec![],
            conditions_v6: vec![],
        }
    }
}

fn mapping(raw: &PortMapping) -> Result<Mapping, CniError> {
    let port = |name: &str, number: i32| {
        u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| {
            CniError::new(
                Code::InvalidConfig,
                format!("portMappings: {name} {number} is not a port (1 to 65535)"),
            )
        })
    };
    let host = match raw.host_ip.as_str() {
        "" => Host::Any,
        text => match text.parse() {
            Ok(IpAddr::V4(addr)) if addr.is_unspecified() => Host::AnyV4,
            Ok(IpAddr::V6(addr)) if addr.is_unspecified() => Host::AnyV6,
            Ok(addr) => Host::One(addr),
            Err(_) => {
                let msg = format!("portMappings: hostIP {text:?} is not an IP address");
                return Err(CniError::new(Code::InvalidConfig, msg));
            }
        },
    };
    Ok(Mapping {
        protocol: raw.protocol,
        host_port: port("hostPort", raw.host_port)?,
        container_port: port("containerPort", raw.container_port)?,
        host,
    })
}
