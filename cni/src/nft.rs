//! Rules as text for `nft -f -`: one call is one transaction, all of it or nothing.

use crate::process::{self, ProcessError};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The time one transaction is given; a full load of a large cluster takes well under a second.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Why rules were not loaded.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The tool could not be run.
    #[error("run nft")]
    Run {
        #[source]
        /// What went wrong with the process.
        source: ProcessError,
    },
    /// The tool or the kernel refused; the message is its own.
    #[error("nft refused: {message}")]
    Refused {
        /// The first line that nft printed.
        message: String,
    },
}

impl NftError {
    /// True when an object that was to be removed is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, NftError::Refused { message } if message.contains("No such file or directory"))
    }
}

/// Loads `rules` in one transaction, in the network namespace of the calling thread.
pub fn apply(rules: &str) -> Result<(), NftError> {
    run(&["-f", "-"], rules)
}

fn run(arguments: &[&str], input: &str) -> Result<(), NftError> {
    let mut command = Command::new(tool());
    command.args(arguments);
    let output =
        process::run(command, input.as_bytes(), DEADLINE).map_err(|source| NftError::Run { source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("rror")).or_else(|| text.lines().next());
    Err(NftError::Refused { message: line.unwrap_or("no reason given").trim().to_owned() })
}

/// A runtime may start plugins with a PATH that lacks the sbin folders.
fn tool() -> &'static str {
    ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nft")
}
