//! Kernel settings under /proc/sys, in the network namespace of the calling thread.

use std::{fs, io};

/// Writes a setting when it differs, so that a read-only /proc that already has the value is no obstacle.
pub fn ensure(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value)
        .map_err(|err| io::Error::new(err.kind(), format!("write {value} to {path}: {err}")))
}

/// As [`ensure`], for a setting that this kernel may lack: absent is fine.
pub fn ensure_if_present(name: &str, value: &str) -> io::Result<()> {
    match ensure(name, value) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
