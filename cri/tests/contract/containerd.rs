//! A containerd for one test: own root, state and socket, one image of busybox.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle_cri::{Images, Remote, Sandboxes};

use crate::suite::IMAGE;

/// Runs until dropped; takes its pods along.
pub struct Containerd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts one and waits until it serves the image.
    pub async fn start() -> Self {
        for tool in ["containerd", "ctr", "runc", "busybox"] {
            let found =
                Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
            assert!(
                found.is_ok_and(|it| it.success()),
                "{tool} is not installed: this test needs containerd, runc and busybox"
            );
        }
        let folder = tempfile::Builder::new().prefix("ctrd").tempdir().unwrap();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, config_text(folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { child, folder };
        containerd.wait().await;
        containerd
    }

    /// Its endpoint.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    async fn wait(&self) {
        let remote = Remote::connect(&self.endpoint()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let late = |what: &str| {
            let log = std::fs::read_to_string(self.folder.path().join("containerd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what}\n{log}");
        };
        while remote.version().await.is_err() {
            late("containerd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let archive = self.folder.path().join("image.tar");
        std::fs::write(&archive, image_archive()).unwrap();
        let import = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(&archive)
            .output()
            .unwrap();
        assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
        while remote.image_status(IMAGE).await.unwrap().is_none() {
            late("the image does not appear");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Pods that a failed test left behind, by the runtime's own means.
        let ctr = |args: &[&str]| {
            let output = Command::new("ctr")
                .arg("--address")
                .arg(self.socket())
                .args(["-n", "k8s.io"])
                .args(args)
                .output();
            output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default()
        };
        for task in ctr(&["tasks", "ls", "-q"]).lines() {
            ctr(&["tasks", "rm", "-f", task]);
        }
        for container in ctr(&["containers", "ls", "-q"]).lines() {
            ctr(&["containers", "rm", container]);
        }
        drop(self.child.kill());
        drop(self.child.wait());
        unmount_below(self.folder.path());
    }
}

/// Mounts that the runtime left in its folder would keep it from being removed.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.retain(|point| Path::new(point).starts_with(folder));
    for point in points.iter().rev() {
        drop(Command::new("umount").args(["-l", point]).status());
    }
}

fn config_text(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/c.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni/bin"
    conf_dir = "{folder}/cni/conf"
"#
    )
}

/// A docker-archive with one layer: busybox and its links.
fn image_archive() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin/", "tmp/", "proc/", "sys/", "dev/", "etc/"] {
        append(&mut layer, folder, tar::EntryType::Directory, &[], 0o755);
    }
    append(&mut layer, "bin/busybox", tar::EntryType::Regular, &busybox, 0o755);
    for applet in ["sh", "sleep", "cat", "echo", "stty", "true", "nc", "wc", "dd", "tty"] {
        let mut header = header(tar::EntryType::Symlink, 0, 0o777);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &layer);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]},
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "manifest.json", tar::EntryType::Regular, manifest.to_string().as_bytes(), 0o644);
    append(&mut archive, "config.json", tar::EntryType::Regular, config.to_string().as_bytes(), 0o644);
    append(&mut archive, "layer.tar", tar::EntryType::Regular, &layer, 0o644);
    archive.into_inner().unwrap()
}

fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(u64::try_from(size).unwrap());
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, content: &[u8], mode: u32) {
    let mut header = header(kind, content.len(), mode);
    builder.append_data(&mut header, path, content).unwrap();
}
