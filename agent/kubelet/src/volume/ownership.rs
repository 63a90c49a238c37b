//! A volume's group: `fsGroup` owns every file and can use it.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::VolumeError;

/// What the group may do: read and write.
const READ_WRITE: u32 = 0o660;
/// Read only.
const READ_ONLY: u32 = 0o440;
/// Enter a folder.
const ENTER: u32 = 0o110;
/// New files in a folder get its group.
const SET_GROUP_ID: u32 = 0o2000;

/// Who owns a volume's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) gid: u32,
    pub(super) read_only: bool,
    /// `fsGroupChangePolicy: OnRootMismatch`.
    pub(super) only_on_root_mismatch: bool,
}

/// Gives everything at and below `root` to the group. Symbolic links are not followed.
pub(super) fn give(root: &Path, group: Group) -> Result<(), VolumeError> {
    let meta = fs::symlink_metadata(root).map_err(VolumeError::io("inspect", root))?;
    if group.only_on_root_mismatch && is_given(&meta, group) {
        return Ok(());
    }
    walk(root, &meta, group)
}

/// The root last: a walk that was cut off is seen by the next.
fn walk(path: &Path, meta: &Metadata, group: Group) -> Result<(), VolumeError> {
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(VolumeError::io("list", path))? {
            let child = entry.map_err(VolumeError::io("list", path))?.path();
            let meta = fs::symlink_metadata(&child).map_err(VolumeError::io("inspect", &child))?;
            walk(&child, &meta, group)?;
        }
    }
    std::os::unix::fs::lchown(path, None, Some(group.gid))
        .map_err(VolumeError::io("change group of", path))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = (meta.permissions().mode() & 0o7777) | mask(meta, group);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("set mode of", path))
}

fn mask(meta: &Metadata, group: Group) -> u32 {
    let base = if group.read_only { READ_ONLY } else { READ_WRITE };
    if meta.is_dir() { base | ENTER | SET_GROUP_ID } else { base }
}

fn is_given(meta: &Metadata, group: Group) -> bool {
    let mask = mask(meta, group);
    meta.gid() == group.gid && meta.permissions().mode() & mask == mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_owns_all_and_the_outside_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        for path in [&root.join("f"), &outside] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::symlink(&outside, root.join("l")).unwrap();
        give(&root, Group { gid: 1234, read_only: false, only_on_root_mismatch: false }).unwrap();
        let seen = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.gid(), meta.permissions().mode() & 0o7777)
        };
        assert_eq!(seen(&root), (1234, 0o2775));
        assert_eq!(seen(&root.join("f")), (1234, 0o660));
        assert_eq!(seen(&outside), (0, 0o600));
    }

    #[test]
    fn a_root_that_matches_saves_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group { gid: 1234, read_only: false, only_on_root_mismatch: true };
        give(dir.path(), group).unwrap();
        fs::write(dir.path().join("late"), "").unwrap();
        give(dir.path(), group).unwrap();
        assert_eq!(fs::metadata(dir.path().join("late")).unwrap().gid(), 1234, "by the set-group-id bit");
        std::os::unix::fs::lchown(dir.path().join("late"), None, Some(7)).unwrap();
        give(dir.path(), group).unwrap();
        assert_eq!(fs::metadata(dir.path().join("late")).unwrap().gid(), 7, "not walked");
    }
}
