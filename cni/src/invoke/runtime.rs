//! A whole list of plugins: ADD, CHECK, DEL, GC, STATUS.
//!
//! Calls for one container must come one after the other, and GC must run alone; that is the caller's to see to.

use super::{cache, exec};
use crate::conflist::ConfList;
use crate::spec::{AddResult, AttachmentId, CniError, Code, Command, Request, Version};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Where plugins are and where results are kept.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Folders with plugins, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// The folder for results, such as /var/lib/cni/results.
    pub cache_dir: PathBuf,
    /// The time that each plugin is given.
    pub limit: Duration,
}

/// One container's place in a network.
#[derive(Clone, Debug, Default)]
pub struct Attachment {
    /// The container.
    pub container_id: String,
    /// Its namespace; may be gone at DEL.
    pub netns: Option<PathBuf>,
    /// The interface inside.
    pub ifname: String,
    /// Extra arguments, such as K8S_POD_NAME.
    pub args: Vec<(String, String)>,
    /// Values for capabilities, such as portMappings; a plugin gets those that it declares.
    pub capabilities: Map<String, Value>,
}

impl Runtime {
    /// Attaches a container; when a plugin fails, those before it are undone.
    pub fn add(&self, list: &ConfList, attachment: &Attachment) -> Result<AddResult, CniError> {
        let mut result = None;
        for plugin in &list.plugins {
            match self.call(list, plugin, Command::Add, attachment, result.as_ref()) {
                Ok(made) => result = made.or(result),
                // Every ADD is followed by a DEL, a failed one too.
                Err(err) => return Err(err.and(self.del(list, attachment))),
            }
        }
        let result = result
            .ok_or_else(|| CniError::new(Code::Decode, format!("network {} gave no result", list.name)))?;
        let record = cache::Record::new(&list.name, &config_of(list), attachment, result.clone());
        match cache::save(&self.cache_dir, &record) {
            Ok(()) => AddResult::from_json(&result),
            Err(err) => Err(err.and(self.del(list, attachment))),
        }
    }

    /// Takes a container's attachment away; tries every plugin, and may be repeated.
    pub fn del(&self, list: &ConfList, attachment: &Attachment) -> Result<(), CniError> {
        let result = match list.version {
            Version::V0_1_0 | Version::V0_2_0 | Version::V0_3_0 | Version::V0_3_1 => None,
            Version::V0_4_0 | Version::V1_0_0 | Version::V1_1_0 => {
                cache::load(&self.cache_dir, &list.name, attachment).map(|record| record.result)
            }
        };
        let backwards = list.plugins.iter().rev();
        let failures: Vec<CniError> = backwards
            .filter_map(|plugin| self.call(list, plugin, Command::Del, attachment, result.as_ref()).err())
            .collect();
        CniError::all(failures)?;
        cache::remove(&self.cache_dir, &list.name, &attachment.container_id, &attachment.ifname)
    }

    /// Is the attachment as ADD made it?
    pub fn check(&self, list: &ConfList, attachment: &Attachment) -> Result<(), CniError> {
        if list.disable_check || list.version < Version::V0_4_0 {
            return Ok(());
        }
        let record = cache::load(&self.cache_dir, &list.name, attachment).ok_or_else(|| {
            let id = &attachment.container_id;
            CniError::new(
                Code::UnknownContainer,
                format!("container {id} is not attached to network {}", list.name),
            )
        })?;
        list.plugins.iter().try_for_each(|plugin| {
            self.call(list, plugin, Command::Check, attachment, Some(&record.result)).map(drop)
        })
    }

    /// Removes what belongs to none of the valid attachments, records included.
    pub fn gc(&self, list: &ConfList, valid: &[AttachmentId]) -> Result<(), CniError> {
        let mut failures = Vec::new();
        for record in cache::list(&self.cache_dir, &list.name) {
            let id = AttachmentId { container_id: record.container_id, ifname: record.if_name };
            if !valid.contains(&id) {
                let attachment =
                    Attachment { container_id: id.container_id, ifname: id.ifname, ..Attachment::default() };
                failures.extend(self.del(list, &attachment).err());
            }
        }
        if !list.disable_gc && list.version >= Version::V1_1_0 {
            let keys = json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid});
            for plugin in &list.plugins {
                let mut plugin = plugin.clone();
                merge(&mut plugin, &keys);
                failures.extend(self.call(list, &plugin, Command::Gc, &Attachment::default(), None).err());
            }
        }
        CniError::all(failures)
    }

    /// Could an ADD be served now?
    pub fn status(&self, list: &ConfList) -> Result<(), CniError> {
        if list.version < Version::V1_1_0 {
            return list.types().try_for_each(|kind| exec::find(kind, &self.bin_dirs).map(drop));
        }
        list.plugins.iter().try_for_each(|plugin| {
            self.call(list, plugin, Command::Status, &Attachment::default(), None).map(drop)
        })
    }

    fn call(
        &self,
        list: &ConfList,
        plugin: &Value,
        command: Command,
        attachment: &Attachment,
        before: Option<&Value>,
    ) -> Result<Option<Value>, CniError> {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let binary = exec::find(kind, &self.bin_dirs)?;
        let args: Vec<String> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let request = Request {
            command,
            container_id: attachment.container_id.clone(),
            netns: attachment.netns.clone(),
            ifname: attachment.ifname.clone(),
            args: args.join(";"),
            path: self.bin_dirs.clone(),
            stdin: request_config(list, plugin, command, attachment, before).to_string().into_bytes(),
        };
        exec::exec(&binary, &request, self.limit)
    }
}

/// The configuration that one plugin gets in one call.
fn request_config(
    list: &ConfList,
    plugin: &Value,
    command: Command,
    attachment: &Attachment,
    before: Option<&Value>,
) -> Value {
    let mut config = plugin.clone();
    let Some(object) = config.as_object_mut() else { return config };
    object.insert("cniVersion".into(), json!(list.version));
    object.insert("name".into(), json!(list.name));
    let declared = object.remove("capabilities");
    object.retain(|key, _| !key.starts_with("cni.dev/") || command == Command::Gc);
    if !matches!(command, Command::Add | Command::Del | Command::Check) {
        return config;
    }
    let supplied = attachment.capabilities.iter().filter(|(name, _)| {
        declared.as_ref().and_then(|it| it.get(name.as_str())).and_then(Value::as_bool).unwrap_or(false)
    });
    let supplied: Map<String, Value> = supplied.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !supplied.is_empty() {
        object.insert("runtimeConfig".into(), supplied.into());
    }
    if let Some(before) = before {
        object.insert("prevResult".into(), before.clone());
    }
    config
}

fn merge(into: &mut Value, keys: &Value) {
    if let (Some(object), Some(keys)) = (into.as_object_mut(), keys.as_object()) {
        object.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn config_of(list: &ConfList) -> Vec<u8> {
    json!({"cniVersion": list.version, "name": list.name, "plugins": list.plugins}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_is_told() {
        let list = ConfList::parse(
            br#"{"cniVersion":"1.0.0","name":"n","plugins":[
                {"type":"portmap","snat":true,"cni.dev/x":1,"capabilities":{"portMappings":true,"mac":false}}]}"#,
        )
        .unwrap();
        let capabilities =
            json!({"portMappings": [1], "mac": "m", "bandwidth": {}}).as_object().unwrap().clone();
        let attachment = Attachment { capabilities, ..Attachment::default() };
        let before = json!({"ips": []});
        let check = |command, before: Option<&Value>, wanted: Value| {
            assert_eq!(
                request_config(&list, &list.plugins[0], command, &attachment, before),
                wanted,
                "{command:?}"
            );
        };
        let plain = json!({"cniVersion": "1.0.0", "name": "n", "type": "portmap", "snat": true});
        let mut full = plain.clone();
        full["runtimeConfig"] = json!({"portMappings": [1]});
        check(Command::Add, None, full.clone());
        full["prevResult"] = before.clone();
        check(Command::Del, Some(&before), full);
        check(Command::Status, None, plain);
    }
}
