//! What must be so before a cluster can start here: each point checked, each failure with what to do about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use coracle_cri::Runtime;

use crate::settings::NodeSettings;

/// A point that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// What is wrong, and what would help.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// What is to run here.
#[derive(Clone, Copy)]
pub struct Needs<'a> {
    /// What is particular to this node.
    pub node: &'a NodeSettings,
    /// The container runtime, when pods run here.
    pub runtime: Option<&'a dyn Runtime>,
    /// Where the API server listens, when there is one here.
    pub api: Option<SocketAddr>,
}

/// Looks at everything and returns all that is wrong, so that a user mends it in one go.
pub async fn check(needs: Needs<'_>) -> Vec<Finding> {
    let settings = needs.node;
    let mut findings = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        findings.push(finding("user", "not root: containers and the pod network need it"));
        return findings;
    }
    findings.extend(check_folder(&settings.data_dir));
    for (name, address) in ports(needs) {
        findings.extend(check_port(name, address));
    }
    let Some(runtime) = needs.runtime else { return findings };
    findings.extend(check_file_systems(&std::fs::read_to_string("/proc/filesystems").unwrap_or_default()));
    findings.extend(check_nft());
    findings.extend(check_program(&settings.cni_binary));
    findings.extend(check_runtime(settings, runtime).await);
    findings
}

fn finding(subject: &str, problem: impl Into<String>) -> Finding {
    Finding { subject: subject.to_owned(), problem: problem.into() }
}

fn ports(needs: Needs<'_>) -> Vec<(&'static str, SocketAddr)> {
    let settings = needs.node;
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut ports: Vec<_> =
        needs.api.map(|address| ("API server (--api-port)", address)).into_iter().collect();
    let of_node = [
        ("kubelet (--kubelet-port)", SocketAddr::new(any, settings.kubelet_port)),
        ("kubelet health (--kubelet-healthz-port)", SocketAddr::new(local, settings.kubelet_healthz_port)),
        ("service proxy health (--proxy-healthz-port)", SocketAddr::new(any, settings.proxy_healthz_port)),
    ];
    ports.extend(of_node.into_iter().filter(|_| needs.runtime.is_some()));
    ports
}

fn check_port(name: &str, address: SocketAddr) -> Option<Finding> {
    match TcpListener::bind(address) {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Some(finding(
            name,
            format!("port {} is taken by another process: stop it or choose another port", address.port()),
        )),
        Err(error) => Some(finding(name, format!("cannot listen on {address}: {error}"))),
    }
}

fn check_folder(folder: &Path) -> Option<Finding> {
    let subject = format!("data folder {}", folder.display());
    if let Err(error) = std::fs::create_dir_all(folder) {
        return Some(finding(&subject, format!("cannot be made: {error}")));
    }
    let probe = folder.join(".write-probe");
    match std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => None,
        Err(error) => Some(finding(&subject, format!("cannot be written: {error}"))),
    }
}

fn check_file_systems(list: &str) -> Option<Finding> {
    let known = list.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    // A module that is not loaded yet is not in the list: ask for it before complaining.
    if known || Command::new("modprobe").arg("overlay").output().is_ok_and(|it| it.status.success()) {
        return None;
    }
    Some(finding("kernel", "has no overlay file system (CONFIG_OVERLAY_FS): containers need it"))
}

fn check_nft() -> Option<Finding> {
    match Command::new("nft").args(["list", "tables"]).output() {
        Err(error) => Some(finding("nft", format!("does not run: {error}; install nftables"))),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(finding(
            "nftables",
            format!(
                "the kernel refuses it (CONFIG_NF_TABLES): {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        )),
    }
}

fn check_program(path: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let subject = format!("CNI program {}", path.display());
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(finding(&subject, "is not a program")),
        Err(error) => Some(finding(&subject, format!("{error}; give it by --cni-binary"))),
    }
}

async fn check_runtime(settings: &NodeSettings, runtime: &dyn Runtime) -> Option<Finding> {
    let subject = format!("container runtime at {}", settings.runtime_endpoint);
    match runtime.version().await {
        Err(error) if error.is_unimplemented() => {
            Some(finding(&subject, "does not speak CRI v1: containerd 1.6 or newer does"))
        }
        Err(error) => Some(finding(&subject, format!("does not answer: {error}"))),
        Ok(version) => {
            too_old(&version.runtime_name, &version.runtime_version).map(|it| finding(&subject, it))
        }
    }
}

/// containerd before 1.6 has no CRI v1.
fn too_old(name: &str, version: &str) -> Option<String> {
    if name != "containerd" {
        return None;
    }
    let mut parts = version.trim_start_matches('v').split(['.', '~', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    ((major, minor) < (1, 6)).then(|| format!("containerd {version} is too old: 1.6 or newer is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_containerd_is_refused_and_unknown_versions_are_not() {
        for (name, version, old) in [
            ("containerd", "1.5.9", true),
            ("containerd", "1.6.20~ds1", false),
            ("containerd", "v2.1.0", false),
            ("containerd", "devel", false),
            ("cri-o", "1.0.0", false),
        ] {
            assert_eq!(too_old(name, version).is_some(), old, "{name} {version}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = check_port("kubelet", address).unwrap();
        assert!(found.problem.contains(&format!("port {} is taken", address.port())), "{found}");
        drop(listener);
        assert_eq!(check_port("kubelet", address), None);
    }

    #[test]
    fn overlay_is_found_in_the_kernels_list() {
        assert_eq!(check_file_systems("nodev\tproc\nnodev\toverlay\n\text4\n"), None);
    }
}
