//! A Node as the overlay sees it: its networks, and flannel's annotations.

use crate::config::{Backend, OverlayConfig};
use crate::plan::Peer;
use coracle_client::views::Meta;
use coracle_cni::Cidr;
use coracle_cni::netlink::Mac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

const PREFIX: &str = "flannel.alpha.coreos.com/";

/// What is read of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeView {
    /// Name, identity, annotations.
    pub metadata: Meta,
    /// Its networks.
    pub spec: NodeSpec,
}

/// What is read of a Node's spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// The addresses of its pods, at most one network a family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The first of them; the only one, from a server of old.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
}

coracle_client::slim_view!(NodeView);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct BackendData {
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

/// A family's part of an annotation's name: flannel's `public-ip` and `public-ipv6`, ...
const fn keys(ipv4: bool) -> (&'static str, &'static str, &'static str) {
    if ipv4 {
        ("public-ip", "public-ip-overwrite", "backend-data")
    } else {
        ("public-ipv6", "public-ipv6-overwrite", "backend-v6-data")
    }
}

impl NodeView {
    /// Drops what the overlay does not look at, so that it takes no memory and wakes nobody.
    pub fn shrink(&mut self) {
        self.metadata.annotations.retain(|key, _| key.starts_with(PREFIX));
        self.metadata.labels.clear();
    }

    /// Whether the overlay sees a difference.
    pub fn differs(&self, other: &Self) -> bool {
        self.spec != other.spec
            || self.metadata.uid != other.metadata.uid
            || self.metadata.annotations != other.metadata.annotations
    }

    /// The network of its pods in a family.
    pub fn subnet(&self, ipv4: bool) -> Option<Cidr> {
        let one = std::iter::once(&self.spec.pod_cidr);
        let all = self.spec.pod_cidrs.iter().chain(one).filter_map(|it| it.parse::<Cidr>().ok());
        all.map(|it| it.network()).find(|it| it.is_ipv4() == ipv4)
    }

    /// How its pods are reached; nothing as long as it has not said so, or when it uses another backend.
    pub fn peer(&self, ipv4: bool, config: &OverlayConfig) -> Option<Peer> {
        if self.own("kube-subnet-manager") != Some("true")
            || self.own("backend-type") != Some(config.backend.name())
        {
            return None;
        }
        let (address, _, data) = keys(ipv4);
        let address: IpAddr = self.own(address)?.parse().ok()?;
        let data: BackendData =
            self.own(data).and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        if address.is_ipv4() != ipv4 || data.vni.is_some_and(|it| it != config.vni) {
            return None;
        }
        let mac = data.mac.parse().ok();
        if mac.is_none() && matches!(config.backend, Backend::Vxlan { .. }) {
            return None;
        }
        Some(Peer { name: self.metadata.name.clone(), address, subnet: self.subnet(ipv4)?, mac })
    }

    /// The annotations that this node must change to say how its own pods are reached.
    pub fn missing(&self, config: &OverlayConfig, mac_of: impl Fn(bool) -> Mac) -> BTreeMap<String, String> {
        let mut wanted = vec![
            ("kube-subnet-manager", "true".to_owned()),
            ("backend-type", config.backend.name().to_owned()),
        ];
        for ipv4 in [true, false] {
            let (public, overwrite, data) = keys(ipv4);
            let Some(address) = config.address(ipv4).filter(|_| self.subnet(ipv4).is_some()) else {
                continue;
            };
            let address = self.own(overwrite).map_or_else(|| address.to_string(), str::to_owned);
            let said = match config.backend {
                Backend::HostGw => "null".to_owned(),
                Backend::Vxlan { .. } => {
                    let (vni, mac) = (config.vni, mac_of(ipv4));
                    format!("{{\"VNI\":{vni},\"VtepMAC\":\"{mac}\"}}")
                }
            };
            wanted.extend([(public, address), (data, said)]);
        }
        let changed = wanted.into_iter().filter(|(key, value)| self.own(key) != Some(value));
        changed.map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect()
    }

    fn own(&self, key: &str) -> Option<&str> {
        self.metadata.annotation(&format!("{PREFIX}{key}"))
    }
}

/// A hardware address that stays the same as long as the node does.
pub fn derived_mac(uid: &str, ipv4: bool) -> Mac {
    let start = if ipv4 { 0xcbf2_9ce4_8422_2325 } else { 0x8422_2325_cbf2_9ce4 };
    let digest =
        uid.bytes().fold(start, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [_, _, a, b, c, d, e, f] = digest.to_be_bytes();
    Mac([a & 0xfc | 2, b, c, d, e, f]) // given by no manufacturer, of one link alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backend: Backend) -> OverlayConfig {
        let mut config =
            OverlayConfig::new("a".into(), vec!["192.0.2.1".parse().unwrap()], vec![], "/unused".into());
        config.backend = backend;
        config
    }

    const VXLAN: Backend = Backend::Vxlan { direct_routing: false };

    fn node(annotations: &[(&str, &str)]) -> NodeView {
        let mut node = NodeView::default();
        node.metadata.name = "b".into();
        node.spec.pod_cidrs = vec!["10.244.1.0/24".into()];
        let owned = |(key, value): &(&str, &str)| (format!("{PREFIX}{key}"), (*value).to_owned());
        node.metadata.annotations = annotations.iter().map(owned).collect();
        node
    }

    const GOOD: [(&str, &str); 4] = [
        ("backend-data", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:07"}"#),
        ("backend-type", "vxlan"),
        ("kube-subnet-manager", "true"),
        ("public-ip", "192.0.2.7"),
    ];

    #[test]
    fn a_node_of_flannels_is_understood() {
        let peer = node(&GOOD).peer(true, &config(VXLAN)).unwrap();
        assert_eq!(peer.address.to_string(), "192.0.2.7");
        assert_eq!(peer.subnet.to_string(), "10.244.1.0/24");
        assert_eq!(peer.mac.unwrap().to_string(), "02:00:00:00:00:07");
        assert!(node(&GOOD).peer(false, &config(VXLAN)).is_none());
        assert!(node(&GOOD).peer(true, &config(Backend::HostGw)).is_none());
    }

    #[test]
    fn what_cannot_be_used_is_no_peer() {
        for (key, value) in [
            ("backend-data", r#"{"VNI":2,"VtepMAC":"02:00:00:00:00:07"}"#),
            ("backend-data", r#"{"VtepMAC":"xx"}"#),
            ("backend-data", "{"),
            ("kube-subnet-manager", "false"),
            ("public-ip", "fd00::1"),
            ("public-ip", ""),
        ] {
            let all = GOOD.map(|it| if it.0 == key { (key, value) } else { it });
            assert!(node(&all).peer(true, &config(VXLAN)).is_none(), "{key} {value}");
        }
        let mut bare = node(&GOOD);
        bare.spec.pod_cidrs.clear();
        assert!(bare.peer(true, &config(VXLAN)).is_none());
    }

    #[test]
    fn a_node_says_what_it_has_not_said() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let said = node(&[]).missing(&config(VXLAN), |_| mac);
        let shown: Vec<String> = said.iter().map(|(key, value)| format!("{key} {value}")).collect();
        assert_eq!(
            shown,
            [
                r#"flannel.alpha.coreos.com/backend-data {"VNI":1,"VtepMAC":"02:00:00:00:00:09"}"#,
                "flannel.alpha.coreos.com/backend-type vxlan",
                "flannel.alpha.coreos.com/kube-subnet-manager true",
                "flannel.alpha.coreos.com/public-ip 192.0.2.1",
            ]
        );
        let mut next = node(&[]);
        next.metadata.annotations = said;
        assert!(next.missing(&config(VXLAN), |_| mac).is_empty());
        let overwritten = node(&[("public-ip-overwrite", "198.51.100.1")]);
        let said = overwritten.missing(&config(VXLAN), |_| mac);
        assert_eq!(said["flannel.alpha.coreos.com/public-ip"], "198.51.100.1");
    }

    #[test]
    fn hardware_addresses_differ_by_node_and_family() {
        let all = [derived_mac("u1", true), derived_mac("u1", false), derived_mac("u2", true)];
        assert_ne!(all[0], all[1]);
        assert_ne!(all[0], all[2]);
        assert!(all.iter().all(|it| it.0[0] & 3 == 2));
    }
}
