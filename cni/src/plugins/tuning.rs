//! `tuning`: settings of the container's network and of one interface in it.

use super::entry::{Call, Plugin};
use super::inside;
use crate::netlink::{Link, LinkChange, Mac, Netlink};
use crate::spec::{AddResult, CniError, Code, Explain};
use crate::sysctl;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The plugin.
pub struct Tuning;

/// Where the interface's old settings are kept until DEL.
const DATA_DIR: &str = "/run/cni/tuning";
/// When it is there, only settings that match one of its lines may be changed.
const ALLOW_LIST: &str = "/etc/cni/tuning/allowlist.conf";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    sysctl: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    link: Settings,
    data_dir: Option<PathBuf>,
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
    sysctl: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    link: Settings,
}

/// Settings of one interface; what is absent stays.
#[derive(Deserialize, Serialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    #[serde(alias = "allMulti")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue: Option<u32>,
}

struct Conf {
    /// The file below /proc/sys, and its value.
    sysctl: Vec<(String, String)>,
    mac: Option<Mac>,
    link: Settings,
    data_dir: PathBuf,
}

impl Conf {
    fn read(call: &Call) -> Result<Conf, CniError> {
        let raw: Raw = call.conf()?;
        let args = raw.args.and_then(|it| it.cni).unwrap_or_default();
        let mut sysctl = raw.sysctl.unwrap_or_default();
        sysctl.extend(args.sysctl.unwrap_or_default());
        let ifname = &call.request.ifname;
        let sysctl = sysctl.iter().map(|(key, value)| Ok((file_of(key, ifname)?, value.clone())));
        let link = Settings {
            promisc: args.link.promisc.or(raw.link.promisc).filter(|it| *it),
            mtu: args.link.mtu.or(raw.link.mtu).filter(|it| *it > 0),
            allmulti: args.link.allmulti.or(raw.link.allmulti),
            tx_queue: args.link.tx_queue.or(raw.link.tx_queue),
            mac: None,
        };
        Ok(Conf {
            sysctl: sysctl.collect::<Result<_, CniError>>()?,
            mac: call.wanted_mac(args.link.mac.or(raw.link.mac))?,
            link,
            data_dir: raw.data_dir.unwrap_or_else(|| DATA_DIR.into()),
        })
    }

    fn change(&self) -> LinkChange {
        LinkChange {
            mac: self.mac,
            promisc: self.link.promisc,
            mtu: self.link.mtu,
            all_multicast: self.link.allmulti,
            tx_queue: self.link.tx_queue,
            ..LinkChange::default()
        }
    }

    fn changes_link(&self) -> bool {
        self.mac.is_some() || self.link != Settings::default()
    }

    fn backup_file(&self, call: &Call) -> PathBuf {
        self.data_dir.join(format!("{}_{}.json", call.request.container_id, call.request.ifname))
    }
}

/// `net.ipv4.conf.IFNAME.arp_filter` or the same with slashes; only what belongs to the container's own network.
fn file_of(key: &str, ifname: &str) -> Result<String, CniError> {
    let file = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let parts: Vec<&str> = file.split('/').map(|it| if it == "IFNAME" { ifname } else { it }).collect();
    if parts.first() != Some(&"net")
        || parts.len() < 2
        || parts.iter().any(|it| matches!(*it, "" | "." | ".."))
    {
        let msg = format!("tuning: sysctl {key:?} is not one of the container's network");
        return Err(CniError::new(Code::InvalidConfig, msg).details("only settings below net may be changed"));
    }
    Ok(parts.join("/"))
}

impl Plugin for Tuning {
    fn add(&self, call: &Call) -> Result<AddResult, CniError> {
        let conf = Conf::read(call)?;
        allowed(&call.conf::<Raw>()?, Path::new(ALLOW_LIST))?;
        let mut result = call.prev_result()?;
        let netns = call.netns()?;
        let ifname = &call.request.ifname;
        let link = inside::within(&netns, || {
            for (file, value) in &conf.sysctl {
                sysctl::ensure(file, value).explain(Code::Io, || format!("set sysctl {file}"))?;
            }
            if !conf.changes_link() {
                return Ok(None);
            }
            let (netlink, link) = open(ifname)?;
            save(&conf.backup_file(call), &link)?;
            change(&netlink, &link, &conf.change()).map_err(|err| err.and(restore(&conf, call)))?;
            Ok(Some(open(ifname)?.1))
        })??;
        let own = result.interfaces.iter_mut().find(|it| it.name == *ifname && !it.sandbox.is_empty());
        if let (Some(link), Some(own)) = (link, own) {
            own.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            own.mtu = if conf.link.mtu.is_some() || own.mtu > 0 { link.mtu } else { 0 };
        }
        Ok(result)
    }

    fn del(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        let done = match call.netns_if_present()? {
            Some(netns) => inside::within(&netns, || restore(&conf, call))?,
            None => Ok(()),
        };
        match std::fs::remove_file(conf.backup_file(call)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(err).explain(Code::Io, || format!("remove {}", conf.backup_file(call).display()))
            }
            _ => done,
        }
    }

    fn check(&self, call: &Call) -> Result<(), CniError> {
        let conf = Conf::read(call)?;
        call.prev_result()?;
        let ifname = &call.request.ifname;
        inside::within(&call.netns()?, || {
            let failed = |msg: String| Err(CniError::new(Code::CheckFailed, msg));
            for (file, value) in &conf.sysctl {
                let now = std::fs::read_to_string(format!("/proc/sys/{file}"));
                let now = now.explain(Code::Io, || format!("read sysctl {file}"))?;
                if now.split_whitespace().ne(value.split_whitespace()) {
                    return failed(format!("sysctl {file} is {}, not {value}", now.trim()));
                }
            }
            if !conf.changes_link() {
                return Ok(());
            }
            let (_, link) = open(ifname)?;
            match difference(&conf, &link) {
                Some(text) => failed(format!("{ifname}: {text}")),
                None => Ok(()),
            }
        })?
    }

    fn gc(&self, call: &Call) -> Result<(), CniError> {
        // What is kept does not say whose network it belongs to; it is small, and lies in /run.
        Conf::read(call).map(drop)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Conf::read(call).map(drop)
    }
}

fn open(ifname: &str) -> Result<(Netlink, Link), CniError> {
    let say = || format!("look for {ifname} in the container");
    let netlink = Netlink::open().explain(Code::Network, say)?;
    let link = netlink.link(ifname).explain(Code::Network, say)?;
    let gone = || CniError::new(Code::InvalidConfig, format!("the container has no interface {ifname}"));
    Ok((netlink, link.ok_or_else(gone)?))
}

fn change(netlink: &Netlink, link: &Link, wanted: &LinkChange) -> Result<(), CniError> {
    let say = || format!("change {} in the container", link.name);
    netlink.change_link(link.index, wanted).explain(Code::Network, say)
}

fn difference(conf: &Conf, link: &Link) -> Option<String> {
    let say = |what: &str, now: String, wanted: String| Some(format!("{what} is {now}, not {wanted}"));
    match (conf.mac, &conf.link) {
        (Some(mac), _) if link.mac != Some(mac) => {
            say("mac", link.mac.map(|it| it.to_string()).unwrap_or_default(), mac.to_string())
        }
        (_, Settings { mtu: Some(mtu), .. }) if *mtu != link.mtu => {
            say("mtu", link.mtu.to_string(), mtu.to_string())
        }
        (_, Settings { promisc: Some(on), .. }) if *on != link.promisc => {
            say("promisc", link.promisc.to_string(), on.to_string())
        }
        (_, Settings { allmulti: Some(on), .. }) if *on != link.all_multicast => {
            say("allmulti", link.all_multicast.to_string(), on.to_string())
        }
        (_, Settings { tx_queue: Some(length), .. }) if *length != link.tx_queue => {
            say("txQLen", link.tx_queue.to_string(), length.to_string())
        }
        _ => None,
    }
}

/// Keeps what the interface was like, unless an earlier ADD has done so.
fn save(file: &Path, link: &Link) -> Result<(), CniError> {
    let settings = Settings {
        mac: link.mac.map(|mac| mac.to_string()),
        promisc: Some(link.promisc),
        mtu: Some(link.mtu),
        allmulti: Some(link.all_multicast),
        tx_queue: Some(link.tx_queue),
    };
    let write = || {
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let draft = file.with_extension("new");
        std::fs::write(&draft, serde_json::to_vec(&settings).map_err(io::Error::other)?)?;
        std::fs::rename(&draft, file)
    };
    write().explain(Code::Io, || format!("write {}", file.display()))
}

/// Gives the interface its old settings back, on a thread that is in the container; whatever is gone is gone.
fn restore(conf: &Conf, call: &Call) -> Result<(), CniError> {
    let file = conf.backup_file(call);
    let Ok(text) = std::fs::read(&file) else { return Ok(()) };
    let Ok(old) = serde_json::from_slice::<Settings>(&text) else { return Ok(()) };
    let ifname = &call.request.ifname;
    let say = || format!("give {ifname} its old settings");
    let netlink = Netlink::open().explain(Code::Network, say)?;
    let Some(link) = netlink.link(ifname).explain(Code::Network, say)? else { return Ok(()) };
    let wanted = |set: bool| set.then_some(());
    let back = LinkChange {
        mac: wanted(conf.mac.is_some()).and(old.mac.as_deref().and_then(|it| it.parse().ok())),
        promisc: wanted(conf.link.promisc.is_some()).and(old.promisc),
        mtu: wanted(conf.link.mtu.is_some()).and(old.mtu),
        all_multicast: wanted(conf.link.allmulti.is_some()).and(old.allmulti),
        tx_queue: wanted(conf.link.tx_queue.is_some()).and(old.tx_queue),
        ..LinkChange::default()
    };
    match netlink.change_link(link.index, &back) {
        Err(err) if err.is_not_found() => Ok(()),
        done => done.explain(Code::Network, say),
    }
}

/// Refuses settings that match no line of the list, where there is one.
fn allowed(raw: &Raw, list: &Path) -> Result<(), CniError> {
    let say = || format!("read {}", list.display());
    let text = match std::fs::read_to_string(list) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.explain(Code::Io, say)?,
    };
    let patterns = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let patterns: Vec<regex_lite::Regex> = patterns
        .map(|line| {
            regex_lite::Regex::new(line)
                .explain(Code::InvalidConfig, || format!("{}: {line}", list.display()))
        })
        .collect::<Result<_, _>>()?;
    let from_args = raw.args.as_ref().and_then(|it| it.cni.as_ref()).and_then(|it| it.sysctl.as_ref());
    let mut keys = raw.sysctl.iter().chain(from_args).flat_map(BTreeMap::keys);
    match keys.find(|key| !patterns.iter().any(|it| it.is_match(key))) {
        None => Ok(()),
        Some(key) => Err(CniError::new(Code::InvalidConfig, format!("tuning: sysctl {key} is not allowed"))
            .details(format!("it matches no line of {}", list.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_file_a_setting_is() {
        let check = |key: &str, wanted: Option<&str>| {
            assert_eq!(file_of(key, "eth0").ok().as_deref(), wanted, "{key}");
        };
        check("net.core.somaxconn", Some("net/core/somaxconn"));
        check("net.ipv4.conf.IFNAME.arp_filter", Some("net/ipv4/conf/eth0/arp_filter"));
        check("net/ipv4/conf/IFNAME/arp_filter", Some("net/ipv4/conf/eth0/arp_filter"));
        check("net/ipv4/conf/eth0.5/arp_filter", Some("net/ipv4/conf/eth0.5/arp_filter"));
        check("kernel.hostname", None);
        check("net/../kernel/hostname", None);
        check("net", None);
    }

    #[test]
    fn a_list_of_what_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("allowlist.conf");
        let raw =
            |key: &str| Raw { sysctl: Some([(key.to_owned(), "1".to_owned())].into()), ..Raw::default() };
        assert!(allowed(&raw("net.core.somaxconn"), &file).is_ok(), "no list");
        std::fs::write(&file, "# some\n^net\\.ipv4\\.conf\\.[a-z]*$\n\n").unwrap();
        assert!(allowed(&raw("net.ipv4.conf.all"), &file).is_ok());
        let err = allowed(&raw("net.core.somaxconn"), &file).unwrap_err();
        assert!(err.to_string().contains("net.core.somaxconn is not allowed"), "{err}");
        std::fs::write(&file, "(").unwrap();
        assert!(allowed(&raw("net.core.somaxconn"), &file).is_err());
    }
}
