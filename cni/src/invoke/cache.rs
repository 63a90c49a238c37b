//! Results on disk, between ADD and DEL, in the layout that other runtimes use.

use super::runtime::Attachment;
use crate::spec::{CniError, Code, Explain};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// What is kept of one attachment.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    kind: String,
    pub(super) container_id: String,
    /// The whole list, as bytes in base64.
    config: String,
    pub(super) if_name: String,
    pub(super) network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<[String; 2]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    /// The final result of ADD.
    pub(super) result: Value,
}

impl Record {
    pub(super) fn new(network: &str, config: &[u8], attachment: &Attachment, result: Value) -> Record {
        Record {
            kind: KIND.into(),
            container_id: attachment.container_id.clone(),
            config: BASE64_STANDARD.encode(config),
            if_name: attachment.ifname.clone(),
            network_name: network.into(),
            netns: attachment.netns.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
            cni_args: Some(attachment.args.iter().map(|(key, value)| [key.clone(), value.clone()]).collect()),
            capability_args: Some(attachment.capabilities.clone()),
            result,
        }
    }
}

pub(super) fn save(dir: &Path, record: &Record) -> Result<(), CniError> {
    let file = file(dir, &record.network_name, &record.container_id, &record.if_name);
    let write = || {
        fs::create_dir_all(dir)?;
        let draft = file.with_extension("new");
        fs::write(&draft, serde_json::to_vec(record).map_err(io::Error::other)?)?;
        fs::rename(&draft, &file)
    };
    write().explain(Code::Io, || format!("write {}", file.display()))
}

/// The record, or nothing where none can be read: DEL goes on without.
pub(super) fn load(dir: &Path, network: &str, attachment: &Attachment) -> Option<Record> {
    let text = fs::read(file(dir, network, &attachment.container_id, &attachment.ifname)).ok()?;
    serde_json::from_slice(&text).ok()
}

pub(super) fn remove(dir: &Path, network: &str, container_id: &str, ifname: &str) -> Result<(), CniError> {
    let file = file(dir, network, container_id, ifname);
    match fs::remove_file(&file) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).explain(Code::Io, || format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// All records of a network.
pub(super) fn list(dir: &Path, network: &str) -> Vec<Record> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let records =
        files.filter_map(|entry| serde_json::from_slice::<Record>(&fs::read(entry.path()).ok()?).ok());
    records.filter(|record| record.network_name == network).collect()
}

fn file(dir: &Path, network: &str, container_id: &str, ifname: &str) -> PathBuf {
    dir.join(format!("{network}-{container_id}-{ifname}"))
}
