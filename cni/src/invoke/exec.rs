//! One plugin, one process.

use crate::process;
use crate::spec::{CniError, Code, Explain, Request};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The time a plugin is given.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The first folder's plugin of that name.
pub fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, CniError> {
    if name.is_empty() || name.contains('/') {
        return Err(CniError::new(Code::InvalidConfig, format!("{name:?} is not the name of a plugin")));
    }
    path.iter().map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        let folders: Vec<String> = path.iter().map(|dir| dir.display().to_string()).collect();
        CniError::new(Code::InvalidConfig, format!("plugin {name} is not installed"))
            .details(format!("looked in: {}", folders.join(", ")))
    })
}

/// Runs a plugin; what it printed when it succeeded, if anything.
pub fn exec(binary: &Path, request: &Request, limit: Duration) -> Result<Option<Value>, CniError> {
    let mut command = Command::new(binary);
    let path = std::env::join_paths(&request.path)
        .explain(Code::InvalidEnvironment, || "a folder in CNI_PATH contains a colon".into())?;
    let netns = request.netns.as_deref().unwrap_or(Path::new(""));
    command
        .env("CNI_COMMAND", request.command.as_str())
        .env("CNI_CONTAINERID", &request.container_id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", &request.ifname)
        .env("CNI_ARGS", &request.args)
        .env("CNI_PATH", path);
    let say = || format!("run plugin {} for {}", binary.display(), request.command.as_str());
    let output = process::run(command, &request.stdin, limit).explain(Code::Io, say)?;
    let text = output.stdout.trim_ascii();
    if output.status.success() {
        if text.is_empty() {
            return Ok(None);
        }
        return serde_json::from_slice(text)
            .map(Some)
            .explain(Code::Decode, || format!("decode the answer of plugin {}", binary.display()));
    }
    Err(CniError::from_json(text).unwrap_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        CniError::new(Code::Io, format!("plugin {} failed: {}", binary.display(), output.status))
            .details(stderr.trim().to_owned())
    }))
}
