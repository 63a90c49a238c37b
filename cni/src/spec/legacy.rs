//! Results as each version writes them.

use super::error::{CniError, Code, Explain};
use super::result::{AddResult, Dns, IpConfig, Route};
use super::version::Version;
use crate::address::Cidr;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The form of 0.1.0 and 0.2.0: at most one address per family, no interfaces.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Old {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp>,
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct OldIp {
    ip: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<OldRoute>,
}

#[derive(Serialize, Deserialize)]
struct OldRoute {
    dst: Cidr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

pub(super) fn read(value: &Value) -> Result<AddResult, CniError> {
    let old =
        Old::deserialize(value).explain(Code::Decode, || "decode the result of the plugin before".into())?;
    let mut result = AddResult { dns: old.dns, ..AddResult::default() };
    for ip in [old.ip4, old.ip6].into_iter().flatten() {
        result.ips.push(IpConfig { interface: None, address: ip.ip, gateway: ip.gateway });
        result.routes.extend(ip.routes.into_iter().map(|route| Route::new(route.dst, route.gw)));
    }
    Ok(result)
}

pub(super) fn write(result: &AddResult, version: Version) -> Value {
    let mut object = match version {
        Version::V0_1_0 | Version::V0_2_0 => plain(&old_form(result)),
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => {
            with_families(&plain(&without_new_fields(result)))
        }
        Version::V1_0_0 => plain(&without_new_fields(result)),
        Version::V1_1_0 => plain(result),
    };
    object["cniVersion"] = json!(version);
    object
}

fn plain(result: &impl Serialize) -> Value {
    serde_json::to_value(result).unwrap_or_else(|_| json!({}))
}

fn old_form(result: &AddResult) -> Old {
    let family = |ipv4: bool| {
        let ip = result.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4)?;
        let routes = result.routes.iter().filter(|route| route.dst.is_ipv4() == ipv4);
        let routes = routes.map(|route| OldRoute { dst: route.dst, gw: route.gw }).collect();
        Some(OldIp { ip: ip.address, gateway: ip.gateway, routes })
    };
    Old { ip4: family(true), ip6: family(false), dns: result.dns.clone() }
}

/// Before 1.0.0 each address names its family.
fn with_families(value: &Value) -> Value {
    let mut value = value.clone();
    for ip in value["ips"].as_array_mut().into_iter().flatten() {
        let ipv6 = ip["address"].as_str().is_some_and(|text| text.contains(':'));
        ip["version"] = json!(if ipv6 { "6" } else { "4" });
    }
    value
}

/// Fields that came with 1.1.0.
fn without_new_fields(result: &AddResult) -> AddResult {
    let mut result = result.clone();
    for interface in &mut result.interfaces {
        interface.mtu = 0;
        interface.socket_path.clear();
        interface.pci_id.clear();
    }
    for route in &mut result.routes {
        *route = Route::new(route.dst, route.gw);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::result::Interface;
    use super::*;

    fn sample() -> AddResult {
        AddResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mtu: 1450,
                sandbox: "/n".into(),
                ..Interface::default()
            }],
            ips: vec![
                IpConfig {
                    interface: Some(0),
                    address: "10.1.0.5/24".parse().unwrap(),
                    gateway: "10.1.0.1".parse().ok(),
                },
                IpConfig { interface: Some(0), address: "fd00::5/64".parse().unwrap(), gateway: None },
            ],
            routes: vec![Route { priority: 7, ..Route::new("0.0.0.0/0".parse().unwrap(), None) }],
            dns: Dns { nameservers: vec!["10.0.0.10".into()], ..Dns::default() },
        }
    }

    #[test]
    fn each_version_has_its_own_form() {
        let check = |version: &str, wanted: Value| {
            assert_eq!(sample().to_json(Version::parse(version).unwrap()), wanted, "{version}");
        };
        let dns = json!({"nameservers": ["10.0.0.10"]});
        check(
            "0.2.0",
            json!({"cniVersion": "0.2.0", "dns": dns,
            "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::5/64"}}),
        );
        check(
            "0.3.1",
            json!({"cniVersion": "0.3.1", "dns": dns,
            "interfaces": [{"name": "eth0", "sandbox": "/n"}],
            "ips": [{"version": "4", "interface": 0, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                    {"version": "6", "interface": 0, "address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}]}),
        );
        check(
            "1.0.0",
            json!({"cniVersion": "1.0.0", "dns": dns,
            "interfaces": [{"name": "eth0", "sandbox": "/n"}],
            "ips": [{"interface": 0, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                    {"interface": 0, "address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}]}),
        );
        check(
            "1.1.0",
            json!({"cniVersion": "1.1.0", "dns": dns,
            "interfaces": [{"name": "eth0", "mtu": 1450, "sandbox": "/n"}],
            "ips": [{"interface": 0, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                    {"interface": 0, "address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "priority": 7}]}),
        );
    }

    #[test]
    fn reads_back_what_each_version_can_say() {
        for version in super::super::SUPPORTED {
            let back = AddResult::from_json(&sample().to_json(version)).unwrap();
            assert_eq!(back.ips.len(), 2, "{version}");
            assert_eq!(back.ips[0].gateway, sample().ips[0].gateway, "{version}");
            assert_eq!(back.dns, sample().dns, "{version}");
            assert_eq!(back.to_json(version), sample().to_json(version), "{version}");
        }
    }

    #[test]
    fn null_lists_of_other_programs_are_empty() {
        let value =
            json!({"cniVersion": "1.0.0", "ips": null, "interfaces": null, "routes": null, "dns": {}});
        assert_eq!(AddResult::from_json(&value).unwrap(), AddResult::default());
    }
}
