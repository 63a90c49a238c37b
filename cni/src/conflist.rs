//! Network configuration files: read, check with file name and reason, render for a pod network.

use crate::address::Cidr;
use crate::invoke::exec;
use crate::spec::{SUPPORTED, Version};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A network: plugins in the order in which they attach a container.
#[derive(Clone, Debug)]
pub struct ConfList {
    /// Its name.
    pub name: String,
    /// The newest version that the file allows and we speak.
    pub version: Version,
    /// CHECK is not wanted.
    pub disable_check: bool,
    /// GC is not wanted.
    pub disable_gc: bool,
    /// Each plugin's configuration.
    pub plugins: Vec<Value>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("CNI configuration {}: {reason}", file.display())]
pub struct ConfError {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    cni_versions: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    disable_check: Flag,
    #[serde(default, rename = "disableGC")]
    disable_gc: Flag,
    plugins: Option<Vec<Value>>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Other programs write the text "true" too.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    #[default]
    Absent,
    Plain(bool),
    Text(String),
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Flag::Absent => false,
            Flag::Plain(on) => *on,
            Flag::Text(text) => text.eq_ignore_ascii_case("true"),
        }
    }
}

impl ConfList {
    /// Reads one file: a list, or a single plugin in the old form.
    pub fn load(file: &Path) -> Result<ConfList, ConfError> {
        let bad = |reason: String| ConfError { file: file.to_owned(), reason };
        let text = fs::read(file).map_err(|err| bad(err.to_string()))?;
        ConfList::parse(&text).map_err(bad)
    }

    /// Reads a list, or a single plugin in the old form.
    pub fn parse(text: &[u8]) -> Result<ConfList, String> {
        let raw: Raw = serde_json::from_slice(text).map_err(|err| err.to_string())?;
        let plugins = match (raw.plugins, &raw.kind) {
            (Some(plugins), _) => plugins,
            (None, Some(_)) => vec![serde_json::from_slice(text).map_err(|err| err.to_string())?],
            (None, None) => return Err("it has neither plugins nor type".into()),
        };
        if raw.name.is_empty() {
            return Err("it has no name".into());
        }
        if plugins.is_empty() {
            return Err("plugins is empty".into());
        }
        for (number, plugin) in plugins.iter().enumerate() {
            match plugin.get("type").map(Value::as_str) {
                Some(Some(kind)) if !kind.is_empty() => {}
                _ => return Err(format!("plugins[{number}] has no type")),
            }
        }
        Ok(ConfList {
            name: raw.name,
            version: newest(&raw.cni_version, &raw.cni_versions)?,
            disable_check: raw.disable_check.is_set(),
            disable_gc: raw.disable_gc.is_set(),
            plugins,
        })
    }

    /// The first usable network of a folder, by file name, as runtimes choose it.
    ///
    /// When there is none, the error names the first file that was meant to be one and what is wrong with it.
    pub fn find(dir: &Path, bin_dirs: &[PathBuf]) -> Result<ConfList, ConfError> {
        let mut first = None;
        for file in files(dir)? {
            let checked = ConfList::load(&file).and_then(|list| match list.missing_plugin(bin_dirs) {
                Some(reason) => Err(ConfError { file: file.clone(), reason }),
                None => Ok(list),
            });
            match checked {
                Ok(list) => return Ok(list),
                Err(err) => first = first.or(Some(err)),
            }
        }
        Err(first.unwrap_or_else(|| ConfError {
            file: dir.to_owned(),
            reason: "no network configuration is there".into(),
        }))
    }

    /// The names of the plugins that are run, delegates included.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().flat_map(|plugin| {
            let own = plugin.get("type").and_then(Value::as_str);
            own.into_iter().chain(plugin["ipam"]["type"].as_str().filter(|kind| !kind.is_empty()))
        })
    }

    fn missing_plugin(&self, bin_dirs: &[PathBuf]) -> Option<String> {
        self.types().find_map(|kind| exec::find(kind, bin_dirs).err()).map(|err| err.to_string())
    }
}

/// The newest version that both sides speak.
fn newest(one: &str, many: &[String]) -> Result<Version, String> {
    let offered: Vec<&str> = many
        .iter()
        .map(String::as_str)
        .chain(Some(one).filter(|it| many.is_empty() || !it.is_empty()))
        .collect();
    offered.iter().filter_map(|text| Version::parse(text).ok()).max().ok_or_else(|| {
        let ours = SUPPORTED.map(Version::as_str).join(", ");
        format!("cniVersion {} is not supported (supported: {ours})", offered.join(", "))
    })
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, ConfError> {
    let bad = |err: io::Error| ConfError { file: dir.to_owned(), reason: err.to_string() };
    let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>().map_err(bad)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(err) => return Err(bad(err)),
    };
    files.retain(|file| {
        file.extension().is_some_and(|it| ["conflist", "conf", "json"].iter().any(|known| it == *known))
    });
    files.sort();
    Ok(files)
}

/// The pod network of one node.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    /// Name of the network; leases and records are kept under it.
    pub name: String,
    /// Name of the bridge.
    pub bridge: String,
    /// The node's own ranges, one per family.
    pub pod_cidrs: Vec<Cidr>,
    /// Maximum packet size; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// Pods take the host's address towards others; an overlay that does this itself wants `false`.
    pub masquerade: bool,
    /// Where leases are kept; the usual folder when absent.
    pub lease_dir: Option<PathBuf>,
}

impl PodNetwork {
    /// The configuration file.
    ///
    /// 1.0.0 is for runtimes that know nothing newer and do not read `cniVersions`.
    pub fn render(&self) -> String {
        let everywhere = |cidr: &Cidr| json!({"dst": if cidr.is_ipv4() { "0.0.0.0/0" } else { "::/0" }});
        let mut bridge = json!({
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": true,
            "hairpinMode": true,
            "ipMasq": self.masquerade,
            "ipMasqBackend": "nftables",
            "ipam": {
                "type": "host-local",
                "ranges": self.pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.network()}])).collect::<Vec<_>>(),
                "routes": self.pod_cidrs.iter().map(everywhere).collect::<Vec<_>>(),
            },
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = mtu.into();
        }
        if let Some(dir) = &self.lease_dir {
            bridge["ipam"]["dataDir"] = dir.display().to_string().into();
        }
        let portmap =
            json!({"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}});
        let list = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
            "name": self.name,
            "plugins": [bridge, portmap],
        });
        format!("{list:#}\n")
    }

    /// Writes the file into a runtime's folder, at once, and only when it differs; returns its path.
    pub fn install(&self, dir: &Path) -> Result<PathBuf, ConfError> {
        let file = dir.join(format!("10-{}.conflist", self.name));
        let write = || {
            let text = self.render();
            if fs::read_to_string(&file).is_ok_and(|now| now == text) {
                return Ok(());
            }
            fs::create_dir_all(dir)?;
            // Runtimes watch the folder: a draft must not look like a configuration.
            let draft = dir.join(format!(".{}.new", self.name));
            fs::write(&draft, text)?;
            fs::rename(&draft, &file)
        };
        write().map_err(|err: io::Error| ConfError { file: file.clone(), reason: err.to_string() })?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork {
            name: "pods".into(),
            bridge: "br0".into(),
            pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
            mtu: Some(1450),
            masquerade: true,
            lease_dir: None,
        };
        let file = network.install(dir.path()).unwrap();
        assert_eq!(file.file_name().unwrap(), "10-pods.conflist");
        let list = ConfList::load(&file).unwrap();
        assert_eq!((list.name.as_str(), list.version), ("pods", Version::V1_1_0));
        assert_eq!(list.types().collect::<Vec<_>>(), ["bridge", "host-local", "portmap"]);
        assert_eq!(list.plugins[0]["ipam"]["ranges"][1][0]["subnet"], "fd00:1::/64");
    }

    #[test]
    fn the_file_and_the_reason_are_named() {
        let check = |files: &[(&str, &str)], wanted: &str| {
            let dir = tempfile::tempdir().unwrap();
            let bin = dir.path().join("bin");
            fs::create_dir(&bin).unwrap();
            fs::write(bin.join("bridge"), "").unwrap();
            for (name, content) in files {
                fs::write(dir.path().join(name), content).unwrap();
            }
            let got = match ConfList::find(dir.path(), &[bin]) {
                Ok(list) => list.name,
                Err(err) => format!("{} {}", err.file.file_name().unwrap().to_string_lossy(), err.reason),
            };
            assert!(got.contains(wanted), "{got:?} should contain {wanted:?}");
        };
        let good = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#;
        check(&[("1.conflist", good)], "n");
        check(&[("1.conf", r#"{"cniVersion":"0.3.1","name":"old","type":"bridge"}"#)], "old");
        check(&[("1.conflist", "{"), ("2.conflist", good)], "n");
        check(&[("1.conflist", "{")], "1.conflist EOF while parsing");
        check(&[("1.conflist", r#"{"name":"n","plugins":[]}"#)], "plugins is empty");
        check(&[("1.conflist", r#"{"plugins":[{"type":"bridge"}]}"#)], "it has no name");
        check(&[("1.conflist", r#"{"name":"n","plugins":[{}]}"#)], "plugins[0] has no type");
        check(
            &[("1.conflist", r#"{"name":"n","cniVersion":"9.0.0","plugins":[{"type":"bridge"}]}"#)],
            "9.0.0 is not supported",
        );
        check(
            &[("1.conflist", r#"{"name":"n","plugins":[{"type":"nope"}]}"#)],
            "plugin nope is not installed",
        );
        check(&[("readme.txt", "x")], "no network configuration is there");
    }
}
