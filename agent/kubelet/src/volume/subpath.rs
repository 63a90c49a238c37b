//! Sub-paths of volumes, safe against a container that swaps a folder for a link while we look.
//!
//! Every step of the way is opened below the one before with the kernel's RESOLVE_BENEATH, so that a link can lead
//! anywhere but out; what is then mounted is the open file, not the path.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, stat};

use super::VolumeError;
use super::mount_table::{MountTable, bind, unmount};

/// Binds `sub` of the volume at `root` to `target`, making folders that are missing. Idempotent.
pub fn bind_subpath(root: &Path, sub: &Path, target: &Path) -> Result<(), VolumeError> {
    let source = open_below(root, sub)?;
    let wanted = fstat(&source).map_err(|err| VolumeError::io("inspect", sub)(err.into()))?;
    if MountTable::read()?.is_mounted(target) {
        if stat(target).is_ok_and(|it| same(&it, &wanted)) {
            return Ok(());
        }
        unmount(target)?;
    }
    make_target(target, is_dir(&wanted))?;
    bind(&source, target)
}

fn open_below(root: &Path, sub: &Path) -> Result<OwnedFd, VolumeError> {
    let failed = |err: nix::Error| VolumeError::io("open sub-path", root.join(sub))(err.into());
    let top: OwnedFd = fs::File::open(root).map_err(VolumeError::io("open", root))?.into();
    match open(top.as_fd(), sub) {
        Ok(fd) => return Ok(fd),
        Err(nix::Error::ENOENT) => {}
        Err(err) => return Err(failed(err)),
    }
    // A folder that is made is like the volume it is made in: sticky, of its group.
    let mode = fstat(&top).map_err(failed)?.st_mode & 0o7777;
    let mut at = top;
    for part in sub.components() {
        let name = Path::new(part.as_os_str());
        at = match open(at.as_fd(), name) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => {
                match mkdirat(&at, name, Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(nix::Error::EEXIST) => {}
                    Err(err) => return Err(failed(err)),
                }
                let made = open(at.as_fd(), name).map_err(failed)?;
                // The mode that was asked for, whatever the umask.
                let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
                let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
                fs::set_permissions(path, permissions).map_err(VolumeError::io("set mode of", sub))?;
                made
            }
            Err(err) => return Err(failed(err)),
        };
    }
    Ok(at)
}

fn open(at: std::os::fd::BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(at, path, how)
}

fn make_target(target: &Path, dir: bool) -> Result<(), VolumeError> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
    let made = if dir { fs::create_dir(target) } else { fs::File::create_new(target).map(drop) };
    match made {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other.map_err(VolumeError::io("create", target)),
    }
    // What the target was for last time need not be what it is for now.
    let was_dir = target.is_dir();
    if was_dir == dir {
        return Ok(());
    }
    let removed = if was_dir { fs::remove_dir(target) } else { fs::remove_file(target) };
    removed.map_err(VolumeError::io("remove", target))?;
    let made = if dir { fs::create_dir(target) } else { fs::File::create_new(target).map(drop) };
    made.map_err(VolumeError::io("create", target))
}

fn is_dir(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::testing::in_private_mounts;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_lies_below_is_bound_and_what_does_not_is_refused() {
        in_private_mounts(|dir| {
            let root = dir.join("v");
            fs::create_dir_all(root.join("data/in")).unwrap();
            fs::write(root.join("data/file"), "inside").unwrap();
            fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o3777)).unwrap();
            fs::write(dir.join("secret"), "outside").unwrap();
            symlink("data", root.join("link")).unwrap();
            symlink("../secret", root.join("up")).unwrap();
            symlink(dir, root.join("abs")).unwrap();
            let target = dir.join("pods/sub/0");
            bind_subpath(&root, Path::new("link/file"), &target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "inside");
            bind_subpath(&root, Path::new("link/file"), &target).unwrap();
            let mounted = MountTable::read().unwrap().below(&target).count();
            assert_eq!(mounted, 1, "bound once");
            bind_subpath(&root, Path::new("data"), &target).unwrap();
            assert!(target.join("file").exists(), "another source replaces the first");
            bind_subpath(&root, Path::new("new/deep"), &dir.join("pods/sub/1")).unwrap();
            let mode =
                |path: &Path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap()) & 0o7777;
            assert_eq!(mode(&root.join("new/deep")), mode(&root));
            for sub in ["up", "abs/secret", "abs", "link/../../secret"] {
                let refused = bind_subpath(&root, Path::new(sub), &dir.join("pods/sub/2"));
                assert!(refused.is_err(), "{sub}");
            }
        });
    }
}
