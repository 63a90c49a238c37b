//! hostPath: a place on the node, checked as asked.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::kind::{Prepared, Request, VolumeType};
use super::{MountedVolume, VolumeError};

pub(super) struct HostPath(pub(super) HostPathVolumeSource);

#[async_trait]
impl VolumeType for HostPath {
    async fn prepare(&self, request: &Request<'_>) -> Result<Prepared, VolumeError> {
        let path = PathBuf::from(&self.0.path);
        let kind = self.0.type_.clone().unwrap_or_default();
        let volume = request.volume.name.clone();
        let work = move |_: &_| match check(&path, &kind) {
            Ok(()) => Ok(MountedVolume { host_path: path, read_only: false, selinux_relabel: false }),
            Err(reason) => Err(VolumeError::SetUp { volume, reason }),
        };
        Ok(Prepared { work: Box::new(work), renew_at: None })
    }
}

/// Makes what `kind` says to make, and checks what is there. Upstream's sentences.
fn check(path: &PathBuf, kind: &str) -> Result<(), String> {
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if !path.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|err| err.to_string())?;
        }
        "FileOrCreate" if !path.exists() => {
            // Folders on the way are not made: upstream does not, either.
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            made.map_err(|err| format!("open {}: {err}", path.display()))?;
        }
        _ => {}
    }
    let meta = fs::metadata(path);
    let is = |test: &dyn Fn(&fs::Metadata) -> bool| meta.as_ref().is_ok_and(test);
    let (matches, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(&|it| it.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (is(&|it| it.is_file()), "a file"),
        "Socket" => (is(&|it| it.file_type().is_socket()), "a socket file"),
        "CharDevice" => (is(&|it| it.file_type().is_char_device()), "a character device"),
        "BlockDevice" => (is(&|it| it.file_type().is_block_device()), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if matches {
        Ok(())
    } else {
        Err(format!("hostPath type check failed: {} is not {what}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let run = |path: PathBuf, kind: &str, want: Option<&str>| {
            let got = check(&path, kind).err();
            let want = want.map(|it| format!("hostPath type check failed: {} is not {it}", path.display()));
            assert_eq!(got, want, "{kind}");
        };
        run(at("nope"), "", None);
        run(at("nope"), "Directory", Some("a directory"));
        run(at("new/deep"), "DirectoryOrCreate", None);
        run(at("new"), "Directory", None);
        run(at("file"), "DirectoryOrCreate", Some("a directory"));
        run(at("made"), "FileOrCreate", None);
        run(at("made"), "File", None);
        run(at("new"), "File", Some("a file"));
        run(at("socket"), "Socket", None);
        run(at("file"), "Socket", Some("a socket file"));
        run("/dev/null".into(), "CharDevice", None);
        run("/dev/null".into(), "BlockDevice", Some("a block device"));
    }
}
