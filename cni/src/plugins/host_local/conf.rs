//! Ranges and what else can be configured, checked.

use super::plan::Range;
use crate::address::Cidr;
use crate::plugins::Call;
use crate::spec::{CniError, Code, Route};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

const DATA_DIR: &str = "/var/lib/cni/networks";

/// The configuration, with every range filled in.
pub(super) struct Conf {
    pub(super) network: String,
    /// Where this network's leases are.
    pub(super) dir: PathBuf,
    /// One address of each set is given to every attachment.
    pub(super) sets: Vec<Vec<Range>>,
    pub(super) routes: Vec<Route>,
    pub(super) resolv_conf: Option<PathBuf>,
    /// Addresses that this attachment asks for.
    pub(super) requested: Vec<IpAddr>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    ipam: Ipam,
    runtime_config: Runtime,
    args: Option<Args>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ipam {
    #[serde(flatten)]
    single: RawRange,
    ranges: Option<Vec<Vec<RawRange>>>,
    routes: Option<Vec<Route>>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRange {
    subnet: Option<String>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Runtime {
    ip_ranges: Option<Vec<Vec<RawRange>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
}

impl Conf {
    /// Reads and checks the configuration of a call.
    pub(super) fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let sets = sets(raw.ipam.single, raw.ipam.ranges, raw.runtime_config.ip_ranges)?;
        let mut requested = call.common.runtime_config.requested_ips()?;
        let from_args = raw.args.and_then(|args| args.cni).map(|cni| cni.ips).unwrap_or_default();
        for text in from_args.iter().map(String::as_str).chain(call.request.arg("IP")) {
            requested.push(crate::spec::parse_ip(text)?);
        }
        requested.dedup();
        Ok(Conf {
            network: call.common.name.clone(),
            dir: raw.ipam.data_dir.unwrap_or_else(|| DATA_DIR.into()).join(&call.common.name),
            sets,
            routes: raw.ipam.routes.unwrap_or_default(),
            resolv_conf: raw.ipam.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
            requested,
        })
    }
}

fn sets(
    single: RawRange,
    ranges: Option<Vec<Vec<RawRange>>>,
    runtime: Option<Vec<Vec<RawRange>>>,
) -> Result<Vec<Vec<Range>>, CniError> {
    let mut raw = runtime.unwrap_or_default();
    if single.subnet.is_some() {
        raw.insert(0, vec![single]);
    }
    raw.extend(ranges.unwrap_or_default());
    if raw.is_empty() {
        return Err(CniError::new(Code::InvalidConfig, "ipam has no range: it needs subnet or ranges"));
    }
    let sets: Vec<Vec<Range>> =
        raw.into_iter().map(|set| set.into_iter().map(range).collect()).collect::<Result<_, _>>()?;
    for (number, set) in sets.iter().enumerate() {
        let Some(first) = set.first() else {
            return Err(CniError::new(Code::InvalidConfig, format!("ipam range set {number} is empty")));
        };
        if set.iter().any(|range| range.subnet.is_ipv4() != first.subnet.is_ipv4()) {
            return Err(CniError::new(
                Code::InvalidConfig,
                format!("ipam range set {number} mixes IPv4 and IPv6"),
            ));
        }
    }
    let all: Vec<&Range> = sets.iter().flatten().collect();
    for (at, one) in all.iter().enumerate() {
        if let Some(other) = all[at + 1..].iter().find(|other| one.overlaps(other)) {
            let pair = format!("{}-{} and {}-{}", one.start, one.end, other.start, other.end);
            return Err(CniError::new(Code::InvalidConfig, format!("ipam ranges overlap: {pair}")));
        }
    }
    Ok(sets)
}

fn range(raw: RawRange) -> Result<Range, CniError> {
    let Some(text) = raw.subnet else {
        return Err(CniError::new(Code::InvalidConfig, "an ipam range has no subnet"));
    };
    let subnet: Cidr =
        text.parse().map_err(|err| CniError::new(Code::InvalidConfig, format!("ipam subnet: {err}")))?;
    Range::new(subnet, raw.range_start, raw.range_end, raw.gateway)
}
