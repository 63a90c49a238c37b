//! Files that change all at once: a folder per version, and the link `..data` swapped by one rename.
//!
//! What readers see are links `<name>` → `..data/<name>`. A crash at any line leaves the old version or the new one in
//! place; a half-made folder that nothing points to is removed by the next write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::VolumeError;
use super::ownership::{self, Group};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
    /// Its owner, if not root.
    pub(super) uid: Option<u32>,
}

/// Files by their path below the volume.
pub(super) type Files = BTreeMap<String, File>;

/// Makes `files` the content of `dir`. Whether anything changed.
pub(super) fn write(dir: &Path, files: &Files, group: Option<Group>) -> Result<bool, VolumeError> {
    if let Some(path) = files.keys().find(|it| !is_allowed(it)) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "a path must stay below its volume");
        return Err(VolumeError::Io { action: "project to", path: path.into(), source });
    }
    let link = dir.join(DATA);
    let current = fs::read_link(&link).ok();
    let now = current.as_ref().map(|it| dir.join(it)).filter(|it| it.is_dir());
    let changed = match &now {
        Some(now) => !same(now, files, group)?,
        None => true,
    };
    let name = if changed {
        let name = version_name();
        let version = dir.join(&name);
        write_version(&version, files, group)?;
        swap(dir, &name)?;
        name
    } else {
        current.map(|it| it.display().to_string()).unwrap_or_default()
    };
    link_names(dir, files)?;
    clean(dir, files, &name)?;
    Ok(changed)
}

fn is_allowed(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    !path.is_empty()
        && !parts[0].starts_with("..")
        && parts.iter().all(|it| !it.is_empty() && *it != ".." && *it != ".")
}

fn version_name() -> String {
    let now = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S");
    format!("..{now}.{}", coracle_apimachinery::rand_suffix(10))
}

fn write_version(version: &Path, files: &Files, group: Option<Group>) -> Result<(), VolumeError> {
    make_dir(version)?;
    for (path, file) in files {
        let target = version.join(path);
        let mut parent = version.to_owned();
        let folders = Path::new(path).parent().into_iter().flat_map(Path::components);
        for part in folders {
            parent.push(part);
            if !parent.is_dir() {
                make_dir(&parent)?;
            }
        }
        fs::write(&target, &file.data).map_err(VolumeError::io("write", &target))?;
        let mode = fs::Permissions::from_mode(file.mode);
        fs::set_permissions(&target, mode).map_err(VolumeError::io("set mode of", &target))?;
        if file.uid.is_some() {
            std::os::unix::fs::lchown(&target, file.uid, None)
                .map_err(VolumeError::io("change owner of", &target))?;
        }
    }
    match group {
        Some(group) => ownership::give(version, group),
        None => Ok(()),
    }
}

fn make_dir(path: &Path) -> Result<(), VolumeError> {
    fs::create_dir(path).map_err(VolumeError::io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(VolumeError::io("set mode of", path))
}

fn swap(dir: &Path, name: &str) -> Result<(), VolumeError> {
    let new = dir.join(DATA_NEW);
    remove_link(&new)?;
    symlink(name, &new).map_err(VolumeError::io("link", &new))?;
    let link = dir.join(DATA);
    fs::rename(&new, &link).map_err(VolumeError::io("swap", link))
}

/// The first part of each path is what shows at the top.
fn tops(files: &Files) -> BTreeSet<&str> {
    files.keys().filter_map(|it| it.split('/').next()).collect()
}

fn link_names(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    for top in tops(files) {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link).map_err(VolumeError::io("link", &link))?;
        }
    }
    Ok(())
}

/// Removes names that are no more, and versions that nothing points to.
fn clean(dir: &Path, files: &Files, current: &str) -> Result<(), VolumeError> {
    let keep = tops(files);
    for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))? {
        let entry = entry.map_err(VolumeError::io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if name == DATA || name == current {
            continue;
        }
        if name.starts_with("..") {
            let kind = entry.file_type().map_err(VolumeError::io("inspect", &path))?;
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(VolumeError::io("remove", &path))?;
        } else if !keep.contains(name.as_str()) && fs::read_link(&path).is_ok_and(|it| it.starts_with(DATA)) {
            remove_link(&path)?;
        }
    }
    Ok(())
}

fn remove_link(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(VolumeError::io("remove", path)(err)),
        _ => Ok(()),
    }
}

/// Whether a version has exactly these files with this content.
fn same(version: &Path, files: &Files, group: Option<Group>) -> Result<bool, VolumeError> {
    let mut found = BTreeSet::new();
    collect(version, version, &mut found)?;
    if found.len() != files.len() || !files.keys().all(|it| found.contains(it)) {
        return Ok(false);
    }
    for (path, file) in files {
        let target = version.join(path);
        let mode = fs::metadata(&target).map_err(VolumeError::io("inspect", &target))?.permissions().mode();
        // A group's bits were added when it was given the file.
        let mode_differs = group.is_none() && mode & 0o777 != file.mode & 0o777;
        if mode_differs || fs::read(&target).map_err(VolumeError::io("read", &target))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<String>) -> Result<(), VolumeError> {
    for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))? {
        let path = entry.map_err(VolumeError::io("list", dir))?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            found.insert(name.display().to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { data: text.into(), mode: 0o644, uid: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    /// What a reader sees, and how many versions lie there.
    fn seen(dir: &Path) -> (String, usize) {
        let mut all = BTreeSet::new();
        let mut versions = 0;
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("..") {
                versions += usize::from(entry.file_type().unwrap().is_dir());
            } else if entry.path().is_dir() {
                collect(dir, &entry.path(), &mut all).unwrap();
            } else {
                all.insert(name);
            }
        }
        let text = |it: &String| format!("{it}={}", fs::read_to_string(dir.join(it)).unwrap());
        (all.iter().map(text).collect::<Vec<_>>().join(" "), versions)
    }

    #[test]
    fn readers_see_the_new_version_whole_and_nothing_of_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let check = |list: &[(&str, &str)], changed: bool, want: &str| {
            assert_eq!(write(dir.path(), &files(list), None).unwrap(), changed, "{list:?}");
            assert_eq!(seen(dir.path()), (want.to_owned(), 1));
        };
        check(&[("a", "1"), ("d/b", "2")], true, "a=1 d/b=2");
        check(&[("a", "1"), ("d/b", "2")], false, "a=1 d/b=2");
        check(&[("a", "9"), ("c", "3")], true, "a=9 c=3");
        check(&[], true, "");
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap().components().count(), 1);
    }

    #[test]
    fn a_write_that_was_cut_off_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        fs::create_dir(dir.path().join("..2020_half")).unwrap();
        symlink("..2020_half", dir.path().join(DATA_NEW)).unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(!write(dir.path(), &files(&[("a", "1")]), None).unwrap());
        assert_eq!(seen(dir.path()), ("a=1".to_owned(), 1));
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/x", "", "..data", "a//b"] {
            assert!(write(dir.path(), &files(&[(path, "1")]), None).is_err(), "{path}");
        }
    }
}
