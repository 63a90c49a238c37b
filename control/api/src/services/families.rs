//! Which address families a Service has: what it asks for, completed from what the cluster has.

use coracle_apimachinery::{FieldError, Path};
use serde_json::{Value, json};

use super::pool::Pool;
use super::strings;
use crate::value::{self, text};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As Services say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    fn of(address: &str) -> Option<Self> {
        match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => Some(Self::V4),
            Ok(std::net::IpAddr::V6(_)) => Some(Self::V6),
            Err(_) => None,
        }
    }
}

/// Sets `clusterIP(s)`, `ipFamilies` and `ipFamilyPolicy` to agree with each other and with the cluster; gives the
/// families in order.
pub fn settle(service: &mut Value, pool: &Pool) -> Result<Vec<Family>, Vec<FieldError>> {
    if text(service, "/spec/type") == "ExternalName" {
        return Ok(Vec::new());
    }
    agree_on_addresses(service);
    let cluster = pool.families();
    let spec = Path::new("spec");
    let asked = strings(service, "/spec/ipFamilies");
    let mut families: Vec<Family> = asked.iter().filter_map(|word| Family::parse(word)).collect();
    for (index, family) in families.iter().enumerate() {
        if !cluster.contains(family) {
            let path = spec.child("ipFamilies").index(index);
            let why = "not configured on this cluster";
            return Err(vec![FieldError::invalid(&path, family.word(), why)]);
        }
    }
    let addresses = strings(service, "/spec/clusterIPs");
    if families.is_empty() {
        families = addresses.iter().filter_map(|address| Family::of(address)).collect();
    }
    if families.is_empty() {
        families.extend(cluster.first());
    }
    let policy = text(service, "/spec/ipFamilyPolicy").to_owned();
    let policy = if policy.is_empty() {
        if families.len() > 1 { "RequireDualStack" } else { "SingleStack" }.to_owned()
    } else {
        policy
    };
    let dual = policy != "SingleStack";
    if policy == "RequireDualStack" && cluster.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        return Err(vec![FieldError::invalid(&spec.child("ipFamilyPolicy"), policy, why)]);
    }
    if dual {
        for family in cluster {
            if !families.contains(&family) {
                families.push(family);
            }
        }
    } else {
        families.truncate(1);
    }
    let words: Vec<&str> = families.iter().map(|family| family.word()).collect();
    let map = value::child(service, "spec");
    map.insert("ipFamilies".to_owned(), json!(words));
    map.insert("ipFamilyPolicy".to_owned(), policy.into());
    Ok(families)
}

/// `clusterIP` is the first of `clusterIPs`.
fn agree_on_addresses(service: &mut Value) {
    let first = text(service, "/spec/clusterIP").to_owned();
    let list = strings(service, "/spec/clusterIPs");
    let spec = value::child(service, "spec");
    match (first.is_empty(), list.first()) {
        (false, None) => {
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        (true, Some(address)) => {
            spec.insert("clusterIP".to_owned(), address.clone().into());
        }
        _ => {}
    }
}
