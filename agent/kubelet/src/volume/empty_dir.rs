//! emptyDir: a folder, or memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use async_trait::async_trait;
use coracle_apimachinery::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};

use super::kind::{Prepared, Request, VolumeType};
use super::mount_table::{MountTable, mount_tmpfs};
use super::ownership::{self, Group};
use super::{MountedVolume, VolumeError};
use crate::resources::{all_containers, container_limits};

/// The plugin's name, as its folder has it.
pub(super) const PLUGIN: &str = "kubernetes.io/empty-dir";

pub(super) struct EmptyDir(pub(super) EmptyDirVolumeSource);

#[async_trait]
impl VolumeType for EmptyDir {
    async fn prepare(&self, request: &Request<'_>) -> Result<Prepared, VolumeError> {
        let limit =
            self.0.size_limit.as_ref().and_then(|it| Quantity::parse(&it.0).ok()).map(|it| it.value());
        let in_memory = match self.0.medium.as_deref().unwrap_or_default() {
            "" => false,
            "Memory" => true,
            other => return Err(request.refused(format!("unknown storage medium {other:?}"))),
        };
        let size = in_memory.then(|| memory_size(request.pod, limit, request.deps.allocatable.memory));
        let (dir, group) = (request.dir(PLUGIN), request.group(false));
        let work = move |mounts: &MountTable| {
            make(&dir, size.map(|size| (size, mounts)), group)?;
            Ok(MountedVolume { host_path: dir, read_only: false, selinux_relabel: true })
        };
        Ok(Prepared { work: Box::new(work), renew_at: None })
    }
}

/// The least of what the node gives, what the pod's containers are limited to together, and what the volume says.
fn memory_size(pod: &Pod, limit: Option<i64>, node: i64) -> Option<i64> {
    let each: Option<Vec<i64>> =
        all_containers(pod).map(|it| Some(container_limits(it).memory()).filter(|it| *it > 0)).collect();
    let together = each.map(|it| it.iter().sum::<i64>()).filter(|it| *it > 0);
    [limit.filter(|it| *it > 0), together, Some(node).filter(|it| *it > 0)].into_iter().flatten().min()
}

/// Makes the folder, on tmpfs if `memory` says so; what stands is left alone.
pub(super) fn make(
    dir: &Path,
    memory: Option<(Option<i64>, &MountTable)>,
    group: Option<Group>,
) -> Result<(), VolumeError> {
    let mut is_new = !dir.is_dir();
    if is_new {
        let parent = dir.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
        // Under another name first: a crash before the mode is set must not leave a folder that looks ready.
        fs::create_dir(dir).map_err(VolumeError::io("create", dir))?;
    }
    if let Some((size, mounts)) = memory
        && !mounts.is_mounted(dir)
    {
        mount_tmpfs(dir, size)?;
        is_new = true;
    }
    let open_to_all = 0o777;
    let meta = fs::metadata(dir).map_err(VolumeError::io("inspect", dir))?;
    if meta.permissions().mode() & open_to_all != open_to_all {
        let mode = (meta.permissions().mode() & 0o7000) | open_to_all;
        fs::set_permissions(dir, fs::Permissions::from_mode(mode))
            .map_err(VolumeError::io("set mode of", dir))?;
    }
    match group {
        // Once: what the pod makes afterwards is the pod's own business, and inherits the group.
        Some(group) if is_new => ownership::give(dir, group),
        Some(group) => ownership::give(dir, Group { only_on_root_mismatch: true, ..group }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::testing::in_private_mounts;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_size_of_memory_is_the_least_limit() {
        let pod = |limits: &str| -> Pod {
            serde_json::from_str(&format!(r#"{{"spec":{{"containers":[{limits}]}}}}"#)).unwrap()
        };
        let limited = r#"{"name":"a","resources":{"limits":{"memory":"100"}}}"#;
        assert_eq!(memory_size(&pod(limited), None, 1000), Some(100));
        assert_eq!(memory_size(&pod(limited), Some(50), 1000), Some(50));
        assert_eq!(memory_size(&pod(&format!(r#"{limited},{{"name":"b"}}"#)), None, 1000), Some(1000));
        assert_eq!(memory_size(&pod(limited), None, 10), Some(10));
    }

    #[test]
    fn memory_is_mounted_once_and_kept() {
        in_private_mounts(|dir| {
            let dir = dir.join("pods/u/volumes/x/v");
            let group = Some(Group { gid: 77, read_only: false, only_on_root_mismatch: false });
            for _ in 0..2 {
                let table = MountTable::read().unwrap();
                make(&dir, Some((Some(1 << 20), &table)), group).unwrap();
                fs::write(dir.join("kept"), "x").unwrap();
            }
            assert_eq!(MountTable::read().unwrap().below(&dir).count(), 1);
            let meta = fs::metadata(&dir).unwrap();
            // The kernel gives a tmpfs the sticky bit.
            assert_eq!((meta.gid(), meta.permissions().mode() & 0o7777), (77, 0o3777));
            assert!(fs::write(dir.join("big"), vec![1u8; 2 << 20]).is_err(), "sizeLimit holds");
        });
    }
}
