//! Taking a pod's folder down. Blocking.
//!
//! Nothing is removed by recursion before the mount table shows that no mount is left below: a folder may be bound
//! from a place that is not the pod's.

use std::fs;
use std::io;
use std::path::Path;

use super::VolumeError;
use super::mount_table::{MountTable, unmount};
use crate::config::Paths;

/// Unmounts everything below the pod's folder, then removes the folder. A pod that has none is no error.
pub(super) fn tear_down(paths: &Paths, uid: &str) -> Result<(), VolumeError> {
    let folder = paths.pod(uid);
    // A uid comes from the API; as a path it must be one plain name.
    let is_plain = !uid.is_empty() && !uid.contains('/') && uid != "." && uid != "..";
    if !is_plain || fs::symlink_metadata(&folder).is_err() {
        return Ok(());
    }
    let mut failures = Vec::new();
    for point in MountTable::read()?.below(&folder) {
        if let Err(err) = unmount(point) {
            failures.push(crate::report(&err));
        }
    }
    let left: Vec<String> = MountTable::read()?.below(&folder).map(|it| it.display().to_string()).collect();
    if !left.is_empty() {
        failures.push(format!("still mounted: {}", left.join(", ")));
        return Err(VolumeError::TearDown { uid: uid.to_owned(), failures });
    }
    if let Err(err) = remove_bind_points(&paths.subpaths(uid)) {
        return Err(VolumeError::TearDown { uid: uid.to_owned(), failures: vec![crate::report(&err)] });
    }
    match fs::remove_dir_all(&folder) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(VolumeError::io("remove", &folder)(err)),
        _ => Ok(()),
    }
}

/// Points of sub-paths are empty when nothing is bound to them: they are removed one by one, never with content.
fn remove_bind_points(folder: &Path) -> Result<(), VolumeError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(VolumeError::io("list", folder))?;
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.is_ok_and(|it| it.is_dir()) {
            remove_bind_points(&path)?;
        } else if entry.metadata().is_ok_and(|it| it.len() > 0) {
            let source = io::Error::new(io::ErrorKind::DirectoryNotEmpty, "has content that is not ours");
            return Err(VolumeError::Io { action: "remove bind point", path, source });
        } else {
            fs::remove_file(&path).map_err(VolumeError::io("remove", &path))?;
        }
    }
    fs::remove_dir(folder).map_err(VolumeError::io("remove", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::bind_subpath;
    use crate::volume::testing::in_private_mounts;

    #[test]
    fn what_was_bound_into_the_pod_survives_it() {
        in_private_mounts(|dir| {
            let paths = Paths::new(dir.join("kubelet"), dir.join("logs"));
            let outside = dir.join("outside/sub");
            fs::create_dir_all(&outside).unwrap();
            fs::write(outside.join("precious"), "x").unwrap();
            bind_subpath(&dir.join("outside"), Path::new("sub"), &paths.subpath("u", "v", "c", 0)).unwrap();
            bind_subpath(&dir.join("outside"), Path::new("sub/precious"), &paths.subpath("u", "v", "c", 1))
                .unwrap();
            tear_down(&paths, "u").unwrap();
            assert!(!paths.pod("u").exists());
            assert!(outside.join("precious").exists());
            tear_down(&paths, "u").unwrap();
            tear_down(&paths, "../..").unwrap();
            assert!(outside.exists());
        });
    }
}
