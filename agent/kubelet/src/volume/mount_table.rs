//! What is mounted where, and the few mounts that volumes need.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::VolumeError;

/// Of this thread, not of the process: they differ where a thread has mounts of its own.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Mount points in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountTable(Vec<PathBuf>);

impl MountTable {
    /// This process's mounts.
    pub(super) fn read() -> Result<Self, VolumeError> {
        let text = fs::read_to_string(MOUNTINFO).map_err(VolumeError::io("read", MOUNTINFO))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|it| it.split(' ').nth(4)).map(unescaped).collect())
    }

    pub(super) fn is_mounted(&self, path: &Path) -> bool {
        self.0.iter().any(|it| it == path)
    }

    /// Mount points at and below `folder`, the latest first.
    pub(super) fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.0.iter().rev().filter(move |it| it.starts_with(folder))
    }
}

/// The kernel writes space, tab, newline and backslash in octal.
fn unescaped(text: &str) -> PathBuf {
    if !text.contains('\\') {
        return text.into();
    }
    let decoded = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    decoded.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain)).into()
}

/// Mounts a tmpfs of at most `size` bytes (`None`: the kernel's default, half of memory).
pub(super) fn mount_tmpfs(target: &Path, size: Option<i64>) -> Result<(), VolumeError> {
    let options = size.map(|it| format!("size={it}"));
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), options.as_deref())
        .map_err(|err| VolumeError::io("mount tmpfs on", target)(err.into()))
}

/// Binds what `source` is open on; the way there was walked safely and cannot be changed any more.
pub(super) fn bind(source: &OwnedFd, target: &Path) -> Result<(), VolumeError> {
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(from.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|err| VolumeError::io("bind", target)(err.into()))
}

/// Unmounts; what is not mounted is no error.
pub(super) fn unmount(target: &Path) -> Result<(), VolumeError> {
    match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(err) => Err(VolumeError::io("unmount", target)(io::Error::from(err))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let table = MountTable::parse(
            "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a\\040b rw - tmpfs t rw\n3 1 0:2 / /a\\040b/c rw - tmpfs t rw\n",
        );
        assert!(table.is_mounted(Path::new("/a b")));
        let below: Vec<_> = table.below(Path::new("/a b")).map(|it| it.display().to_string()).collect();
        assert_eq!(below, ["/a b/c", "/a b"]);
        assert!(!table.is_mounted(Path::new("/a")));
    }
}
