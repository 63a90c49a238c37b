//! Work inside another network namespace. The only module that calls setns.

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
const PROC_SUPER_MAGIC: FsType = FsType(0x9fa0);

/// An open network namespace.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// Opens the namespace at `path`; nothing when no namespace is there any more.
    pub fn open(path: &Path) -> io::Result<Option<Netns>> {
        match File::open(path) {
            // A runtime that crashed half way leaves an empty file where the namespace was mounted.
            Ok(file) if is_namespace(&file)? => Ok(Some(Netns(file))),
            Ok(_) => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Runs `work` inside this namespace, on a thread that ends with it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> nix::Result<T> {
        enter(&self.0, work)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `work` inside the namespace `ns`, on a thread of its own: there is no way back to forget.
pub fn enter<T: Send>(ns: impl AsFd + Send, work: impl FnOnce() -> T + Send) -> nix::Result<T> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(ns, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, Errno>(work())
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn is_namespace(file: &File) -> io::Result<bool> {
    let kind = fstatfs(file)?.filesystem_type();
    Ok(kind == NSFS_MAGIC || kind == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_file_is_no_namespace() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Netns::open(&dir.path().join("gone")).unwrap().is_none());
        std::fs::write(dir.path().join("empty"), "").unwrap();
        assert!(Netns::open(&dir.path().join("empty")).unwrap().is_none());
        assert!(Netns::open(Path::new("/proc/self/ns/net")).unwrap().is_some());
    }
}
