//! `flannel`: another plugin, bridge unless said otherwise, configured by what the overlay of this node wrote down.
//!
//! What the other plugin was told is kept until DEL: by then the overlay may have a new network.

use super::entry::{Call, Plugin};
use super::ipam;
use crate::address::Cidr;
use crate::spec::{AddResult, CniError, Code, Command, Explain, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// The plugin.
pub struct Flannel;

const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DATA_DIR: &str = "/var/lib/cni/flannel";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    subnet_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    delegate: Option<Map<String, Value>>,
    ipam: Option<Map<String, Value>>,
    runtime_config: Option<Value>,
}

/// What the overlay wrote down.
#[derive(Debug, Default, PartialEq, Eq)]
struct Subnet {
    networks: Vec<Cidr>,
    subnets: Vec<Cidr>,
    mtu: Option<u32>,
    masquerade: Option<bool>,
}

impl Conf {
    fn read(call: &Call) -> Result<Conf, CniError> {
        let conf: Conf = call.conf()?;
        let invalid = |msg: &str| Err(CniError::new(Code::InvalidConfig, format!("flannel: {msg}")));
        let delegate = conf.delegate.as_ref();
        match delegate.and_then(|it| it.get("type")) {
            None | Some(Value::String(_)) => {}
            Some(_) => return invalid("delegate.type is not a text"),
        }
        if delegate.is_some_and(|it| it.contains_key("name")) {
            return invalid("delegate must not have a name: it takes the network's");
        }
        if delegate.is_some_and(|it| it.contains_key("ipam")) {
            return invalid("delegate must not have ipam: set ipam beside it");
        }
        Ok(conf)
    }

    fn record(&self, call: &Call) -> PathBuf {
        let dir = self.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
        dir.join(&call.request.container_id)
    }

    fn subnet(&self) -> Result<Subnet, CniError> {
        let file = self.subnet_file.clone().unwrap_or_else(|| SUBNET_FILE.into());
        let text = match std::fs::read_to_string(&file) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let msg = format!("the overlay has not written {} yet", file.display());
                return Err(
                    CniError::new(Code::TryAgainLater, msg).details("is flannel or coracle running here?")
                );
            }
            read => read.explain(Code::Io, || format!("read {}", file.display()))?,
        };
        parse(&text)
            .map_err(|reason| CniError::new(Code::InvalidConfig, format!("{}: {reason}", file.display())))
    }
}

impl Plugin for Flannel {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        let told = told(call, &conf, &conf.subnet()?);
        // Before the call: a DEL after a crash must know what was told.
        write(&conf.record(call), &told)?;
        let made =
            run(call, Command::Add, &told).and_then(|value| AddResult::from_json(&value.unwrap_or_default()));
        made.map_err(|err| err.and(run(call, Command::Del, &told).map(drop)).and(forget(&conf.record(call))))
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let record = conf.record(call);
        let Some(told) = recall(&record)? else { return Ok(()) };
        run(call, Command::Del, &with_result(call, told)?)?;
        forget(&record)
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let Some(told) = recall(&conf.record(call))? else {
            let id = &call.request.container_id;
            return Err(CniError::new(Code::CheckFailed, format!("flannel knows nothing of container {id}")));
        };
        run(call, Command::Check, &with_result(call, told)?).map(drop)
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let valid = call.common.valid_attachments()?;
        let mut told = told(call, &conf, &conf.subnet()?);
        told["cni.dev/valid-attachments"] = json!(valid);
        told["cni.dev/attachments"] = json!(valid);
        run(call, Command::Gc, &told)?;
        let dir = conf.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let stale = !valid.iter().any(|it| entry.file_name() == *it.container_id);
            let ours =
                || recall(&entry.path()).ok().flatten().is_some_and(|it| it["name"] == *call.common.name);
            if stale && ours() {
                forget(&entry.path())?;
            }
        }
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let subnet = conf.subnet().map_err(|err| CniError { code: Code::NotAvailable, ..err })?;
        run(call, Command::Status, &told(call, &conf, &subnet)).map(drop)
    }
}

/// The other plugin's configuration: what is not said follows from what the overlay found out.
fn told(call: &Call, conf: &Conf, subnet: &Subnet) -> Value {
    let mut told = conf.delegate.clone().unwrap_or_default();
    let mut default = |key: &str, value: Value| {
        told.entry(key).or_insert(value);
    };
    default("type", "bridge".into());
    default(
        "cniVersion",
        serde_json::from_slice::<Value>(&call.request.stdin).unwrap_or_default()["cniVersion"].clone(),
    );
    // Exactly one of the two hides pods behind the host.
    default("ipMasq", (!subnet.masquerade.unwrap_or(false)).into());
    if let Some(mtu) = subnet.mtu {
        default("mtu", mtu.into());
    }
    if told.get("type").and_then(Value::as_str) == Some("bridge") {
        told.entry("isGateway").or_insert(true.into());
    }
    told.insert("name".into(), call.common.name.clone().into());
    if let Some(runtime) = &conf.runtime_config {
        told.insert("runtimeConfig".into(), runtime.clone());
    }
    let mut ipam = conf.ipam.clone().unwrap_or_default();
    ipam.entry("type").or_insert("host-local".into());
    let ranges: Vec<Value> = subnet.subnets.iter().map(|it| json!([{"subnet": it.network()}])).collect();
    ipam.insert("ranges".into(), ranges.into());
    let mut routes = ipam.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
    routes.extend(subnet.networks.iter().map(|it| json!({"dst": it.network()})));
    ipam.insert("routes".into(), routes.into());
    told.insert("ipam".into(), ipam.into());
    told.retain(|_, value| !value.is_null());
    told.into()
}

fn with_result(call: &Call, mut told: Value) -> Result<Value, CniError> {
    if let Some(before) = call.common.prev_result()? {
        told["prevResult"] = before.to_json(call.common.version()?);
    }
    Ok(told)
}

fn run(call: &Call, command: Command, told: &Value) -> Result<Option<Value>, CniError> {
    let kind = told["type"].as_str().unwrap_or_default();
    if kind == call.common.kind {
        return Err(CniError::new(Code::InvalidConfig, "flannel: delegate.type is flannel itself"));
    }
    ipam::run(kind, &Request { command, stdin: told.to_string().into_bytes(), ..call.request.clone() })
}

fn write(record: &Path, told: &Value) -> Result<(), CniError> {
    let write = || {
        if let Some(dir) = record.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let draft = record.with_extension("new");
        std::fs::write(&draft, told.to_string())?;
        std::fs::rename(&draft, record)
    };
    write().explain(Code::Io, || format!("write {}", record.display()))
}

fn recall(record: &Path) -> Result<Option<Value>, CniError> {
    let say = || format!("read {}", record.display());
    match std::fs::read(record) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        read => {
            let text = read.explain(Code::Io, say)?;
            serde_json::from_slice(&text).map(Some).explain(Code::Decode, say)
        }
    }
}

fn forget(record: &Path) -> Result<(), CniError> {
    match std::fs::remove_file(record) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).explain(Code::Io, || format!("remove {}", record.display()))
        }
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Result<Subnet, String> {
    let mut subnet = Subnet::default();
    let list = |key: &str, value: &str| -> Result<Vec<Cidr>, String> {
        let words = value.split(',').map(str::trim).filter(|it| !it.is_empty());
        words.map(|it| it.parse().map_err(|err| format!("{key}: {err}"))).collect()
    };
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "FLANNEL_NETWORK" | "FLANNEL_IPV6_NETWORK" => subnet.networks.extend(list(key, value)?),
            "FLANNEL_SUBNET" | "FLANNEL_IPV6_SUBNET" => subnet.subnets.extend(list(key, value)?),
            "FLANNEL_MTU" => {
                subnet.mtu = Some(value.parse().map_err(|_| format!("{key} {value:?} is no number"))?)
            }
            "FLANNEL_IPMASQ" => subnet.masquerade = Some(value == "true"),
            _ => {}
        }
    }
    let missing = [
        ("FLANNEL_NETWORK", subnet.networks.is_empty()),
        ("FLANNEL_SUBNET", subnet.subnets.is_empty()),
        ("FLANNEL_MTU", subnet.mtu.is_none()),
        ("FLANNEL_IPMASQ", subnet.masquerade.is_none()),
    ];
    match missing.iter().find(|(_, missing)| *missing) {
        None => Ok(subnet),
        Some((key, _)) => Err(format!("{key} is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_overlay_writes() {
        let text = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
                    FLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let subnet = parse(text).unwrap();
        assert_eq!((subnet.networks.len(), subnet.subnets.len()), (2, 2));
        assert_eq!((subnet.mtu, subnet.masquerade), (Some(1450), Some(true)));
        let check = |text: &str, wanted: &str| assert!(parse(text).unwrap_err().contains(wanted), "{text}");
        check("FLANNEL_NETWORK=10.244.0.0/16", "FLANNEL_SUBNET is missing");
        check("FLANNEL_NETWORK=x", "\"x\" is not an address");
        check("FLANNEL_MTU=x", "is no number");
    }
}
