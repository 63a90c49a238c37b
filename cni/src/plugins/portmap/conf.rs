//! Mappings, checked.

use crate::plugins::Call;
use crate::spec::{CniError, Code, PortMapping, Protocol};
use serde::Deserialize;
use std::net::IpAddr;

/// What the configuration asks for.
pub(super) struct Conf {
    pub(super) mappings: Vec<Mapping>,
    /// The host itself and the container may use the mapping too.
    pub(super) snat: bool,
    /// The container sees the host's address, whoever comes.
    pub(super) masquerade_all: bool,
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
        refuse_unsupported(&raw)?;
        let mappings = call.common.runtime_config.port_mappings.iter().filter(|it| it.host_port > 0);
        Ok(Conf {
            mappings: mappings.map(mapping).collect::<Result<_, _>>()?,
            snat: raw.snat.unwrap_or(true),
            masquerade_all: raw.masq_all,
        })
    }
}

fn refuse_unsupported(raw: &Raw) -> Result<(), CniError> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|it| !it.is_empty());
    let field = if !matches!(raw.backend.as_deref(), None | Some("" | "nftables")) {
        "backend other than \"nftables\""
    } else if raw.external_set_mark_chain.as_ref().is_some_and(|it| !it.is_empty()) {
        "externalSetMarkChain"
    } else if some(&raw.conditions_v4) || some(&raw.conditions_v6) {
        "conditionsV4 and conditionsV6"
    } else {
        return Ok(());
    };
    Err(CniError::new(Code::UnsupportedField, format!("portmap: {field} is not supported")))
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
