//! The plugin that gives addresses to another plugin.

use super::entry::{Call, Kind, call};
use crate::invoke::exec;
use crate::spec::{AddResult, CniError, Code, Command, Request};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Asks the configured plugin for addresses; none configured means none given.
pub(super) fn add(from: &Call) -> Result<AddResult, CniError> {
    let Some(value) = delegate(from, Command::Add)? else { return Ok(AddResult::default()) };
    let result = AddResult::from_json(&value).and_then(|result| {
        if result.ips.is_empty() {
            return Err(CniError::new(Code::Address, format!("{} gave no address", from.common.ipam.kind)));
        }
        Ok(result)
    });
    result.map_err(|err| err.and(del(from)))
}

/// Refuses a configuration that asks for no addresses, where a link without them makes no sense.
pub(super) fn must_be_configured(from: &Call) -> Result<(), CniError> {
    if !from.common.ipam.kind.is_empty() {
        return Ok(());
    }
    let kind = &from.common.kind;
    Err(CniError::new(Code::InvalidConfig, format!("{kind} needs ipam, which gives it addresses")))
}

/// Gives the addresses back.
pub(super) fn del(from: &Call) -> Result<(), CniError> {
    delegate(from, Command::Del).map(drop)
}

/// Passes CHECK, GC or STATUS on.
pub(super) fn pass_on(from: &Call) -> Result<(), CniError> {
    delegate(from, from.request.command).map(drop)
}

fn delegate(from: &Call, command: Command) -> Result<Option<serde_json::Value>, CniError> {
    let name = &from.common.ipam.kind;
    if name.is_empty() {
        return Ok(None);
    }
    run(name, &Request { command, ..from.request.clone() })
}

/// Calls another plugin.
pub(super) fn run(name: &str, request: &Request) -> Result<Option<serde_json::Value>, CniError> {
    let binary = exec::find(name, &request.path)?;
    match Kind::parse(name) {
        // The same binary: a call instead of a process.
        Some(kind) if is_ourselves(&binary) => call(kind, request),
        _ => exec::exec(&binary, request, exec::DEADLINE),
    }
}

fn is_ourselves(binary: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(binary).is_some_and(|it| Some(it) == identity(Path::new("/proc/self/exe")))
}
