//! Rules of iptables, for hosts whose firewall is written with it: read with `iptables-save`, changed in one
//! transaction with `iptables-restore`. Slower than our own table by the start of two programs.

use crate::process::{self, ProcessError};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
/// Our own program is the lock: what is read must still hold when it is changed, and no file stays behind.
const LOCK: &str = "/proc/self/exe";

/// Why rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// The lock could not be had.
    #[error("lock {LOCK}")]
    Lock {
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// The tool could not be run.
    #[error("run {program} (is iptables installed?)")]
    Run {
        /// The tool.
        program: String,
        #[source]
        /// What went wrong with the process.
        source: ProcessError,
    },
    /// The tool refused; the message is its own.
    #[error("{program} refused: {message}")]
    Refused {
        /// The tool.
        program: String,
        /// What it printed.
        message: String,
    },
}

/// One table of one family, while nobody else of ours changes it.
#[derive(Debug)]
pub struct Table {
    ipv4: bool,
    name: &'static str,
    lines: Vec<String>,
    _lock: File,
}

impl Table {
    /// Reads a table.
    pub fn open(ipv4: bool, name: &'static str) -> Result<Table, IptablesError> {
        let lock = || {
            let file = File::open(LOCK)?;
            file.lock()?;
            Ok(file)
        };
        let lock = lock().map_err(|source| IptablesError::Lock { source })?;
        let text = run(ipv4, "save", &["-t", name], "")?;
        Ok(Table { ipv4, name, lines: text.lines().map(str::to_owned).collect(), _lock: lock })
    }

    /// True when that chain is there.
    pub fn has_chain(&self, chain: &str) -> bool {
        self.lines
            .iter()
            .any(|line| line.strip_prefix(':').and_then(|it| it.split(' ').next()) == Some(chain))
    }

    /// The rules of a chain as `iptables-save` writes them, without `-A chain`.
    pub fn rules<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a str> {
        let begin = format!("-A {chain} ");
        self.lines.iter().filter_map(move |line| line.strip_prefix(&begin))
    }

    /// All rules: the chain, and the rest of the line.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| line.strip_prefix("-A ")?.split_once(' '))
    }

    /// Changes the table: lines as `iptables-restore` reads them, all or none.
    pub fn change(&self, lines: &[String]) -> Result<(), IptablesError> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = format!("*{}\n{}\nCOMMIT\n", self.name, lines.join("\n"));
        run(self.ipv4, "restore", &["--noflush", "--wait"], &text).map(drop)
    }

    /// The lines that remove the rules whose comment is picked, and the chains of their own that they lead to.
    pub fn without(&self, picked: impl Fn(&str) -> bool) -> Vec<String> {
        let owned: Vec<(&str, &str)> =
            self.all().filter(|(_, rule)| comment(rule).is_some_and(|it| picked(&it))).collect();
        let mut lines: Vec<String> = owned.iter().map(|(chain, rule)| format!("-D {chain} {rule}")).collect();
        let mut chains: Vec<&str> =
            owned.iter().filter_map(|(_, rule)| target(rule)).filter(|it| is_own_chain(it)).collect();
        chains.sort_unstable();
        chains.dedup();
        lines.extend(chains.iter().map(|chain| format!("-F {chain}")));
        lines.extend(chains.iter().map(|chain| format!("-X {chain}")));
        lines
    }
}

/// The name of a chain that belongs to one attachment.
pub fn own_chain(prefix: &str, owner: &str) -> String {
    let (front, back) = (fnv(owner.bytes()), fnv(owner.bytes().rev()));
    let digits = format!("{front:016x}{back:016x}");
    format!("{prefix}{}", &digits[..27 - prefix.len()])
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn is_own_chain(name: &str) -> bool {
    name.len() == 27 && name.starts_with("CNI-")
}

/// The comment of a rule, without its quotes.
pub fn comment(rule: &str) -> Option<String> {
    let (_, rest) = rule.split_once("--comment ")?;
    match rest.strip_prefix('"') {
        Some(quoted) => Some(quoted.split_once('"')?.0.to_owned()),
        None => rest.split(' ').next().map(str::to_owned),
    }
}

fn target(rule: &str) -> Option<&str> {
    let (_, rest) = rule.split_once("-j ")?;
    rest.split(' ').next()
}

fn run(ipv4: bool, action: &str, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
    let program = format!("{}-{action}", if ipv4 { "iptables" } else { "ip6tables" });
    let mut command = Command::new(find(&program));
    command.args(arguments);
    let output = process::run(command, input.as_bytes(), DEADLINE)
        .map_err(|source| IptablesError::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(IptablesError::Refused { program, message })
}

/// A runtime may start plugins with a PATH that lacks the sbin folders.
fn find(program: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
    let found = folders.into_iter().map(|it| Path::new(it).join(program)).find(|it| it.exists());
    found.unwrap_or_else(|| program.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iptables_saves() {
        let rule = r#"-s 10.1.0.5/32 -m comment --comment "a/b c" -j CNI-0123456789abcdef0123456"#;
        assert_eq!(comment(rule).as_deref(), Some("a/b c"));
        assert_eq!(comment("-m comment --comment a/b -j X").as_deref(), Some("a/b"));
        assert_eq!(target(rule), Some("CNI-0123456789abcdef0123456"));
        assert!(is_own_chain("CNI-0123456789abcdef0123456") && !is_own_chain("CNI-FORWARD"));
        let chain = own_chain("CNI-", "x/y");
        assert!(is_own_chain(&chain) && chain != own_chain("CNI-", "x/z"));
        assert!(is_own_chain(&own_chain("CNI-DN-", "x/y")));
    }
}
