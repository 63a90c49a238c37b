//! A container's mounts: which volume goes where, and what the kubelet itself puts into every container.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{Container, HostAlias, Pod, VolumeMount};

use super::hosts::{self, PodHostname};
use super::labels::identity;
use super::{ConfigError, ContainerRequest, ImageVolumes, TranslateDeps};
use crate::config::Paths;
use crate::env::Environment;
use crate::volume::{self, MountedVolume};

/// Where the kubelet's hosts file goes.
const ETC_HOSTS: &str = "/etc/hosts";

/// A mount that is decided; its sub-path, if any, is still to be bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) mount: v1::Mount,
    sub_path: Option<SubPath>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SubPath {
    volume: String,
    index: usize,
    path: String,
    root: PathBuf,
}

/// Decides the mounts of a container's volumes: pure.
pub(super) fn plan(
    deps: &TranslateDeps,
    pod: &Pod,
    request: &ContainerRequest<'_>,
    env: &Environment,
) -> Result<Vec<Planned>, ConfigError> {
    let handler = pod.spec.as_ref().and_then(|it| it.runtime_class_name.as_deref()).unwrap_or_default();
    let can_rro = deps.features.recursive_read_only.iter().any(|it| it == handler);
    let mounts = request.container.volume_mounts.iter().flatten().enumerate();
    mounts
        .map(|(index, wanted)| {
            if let Some(image) = request.image.volumes.get(&wanted.name) {
                return of_image(wanted, image, env, &deps.features.image_volumes);
            }
            let volume = request.volumes.by_name.get(&wanted.name).ok_or_else(|| {
                ConfigError::Refused(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    wanted.name, request.container.name
                ))
            })?;
            one(wanted, index, volume, env, can_rro)
        })
        .collect()
}

/// A mount that the runtime makes of an image.
fn of_image(
    wanted: &VolumeMount,
    image: &str,
    env: &Environment,
    can: &ImageVolumes,
) -> Result<Planned, ConfigError> {
    let image_sub_path = sub_path(wanted, env)?.unwrap_or_default();
    let cannot = |what: &str, runtime: &str| {
        Err(ConfigError::Refused(format!("volume {:?}: {what} not supported by {runtime}", wanted.name)))
    };
    match can {
        ImageVolumes::None(runtime) => return cannot("image volumes are", runtime),
        ImageVolumes::NoSubPath(runtime) if !image_sub_path.is_empty() => {
            return cannot("sub-paths of image volumes are", runtime);
        }
        ImageVolumes::NoSubPath(_) | ImageVolumes::Whole => {}
    }
    let mount = v1::Mount {
        container_path: absolute(&wanted.mount_path),
        readonly: true,
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        image_sub_path,
        ..Default::default()
    };
    Ok(Planned { mount, sub_path: None })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn one(
    wanted: &VolumeMount,
    index: usize,
    volume: &MountedVolume,
    env: &Environment,
    can_rro: bool,
) -> Result<Planned, ConfigError> {
    let readonly = wanted.read_only == Some(true) || volume.read_only;
    let sub_path = sub_path(wanted, env)?.map(|path| SubPath {
        volume: wanted.name.clone(),
        index,
        path,
        root: volume.host_path.clone(),
    });
    let container_path = absolute(&wanted.mount_path);
    let recursive_read_only = match wanted.recursive_read_only.as_deref() {
        Some("Enabled") if !can_rro => {
            return Err(ConfigError::Refused(format!(
                "failed to resolve recursive read-only mode: volume {:?} requested recursive read-only mode, but it is not \
                 supported by the runtime",
                wanted.name
            )));
        }
        Some("Enabled") => true,
        Some("IfPossible") => can_rro && readonly,
        _ => false,
    };
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let mount = v1::Mount {
        container_path,
        host_path: volume.host_path.display().to_string(),
        readonly,
        selinux_relabel: volume.selinux_relabel,
        propagation: propagation.into(),
        recursive_read_only,
        ..Default::default()
    };
    Ok(Planned { mount, sub_path })
}

/// The path below the volume, variables of subPathExpr expanded; every one must be known.
fn sub_path(wanted: &VolumeMount, env: &Environment) -> Result<Option<String>, ConfigError> {
    let path = match (wanted.sub_path_expr.as_deref(), wanted.sub_path.as_deref()) {
        (Some(expr), _) if !expr.is_empty() => {
            let path = env.expand(expr);
            if let Some(name) = unresolved(expr, env) {
                return Err(ConfigError::Refused(format!("missing value for {name:?}")));
            }
            path
        }
        (_, Some(path)) if !path.is_empty() => path.to_owned(),
        _ => return Ok(None),
    };
    let escapes = path.starts_with('/') || path.split('/').any(|it| it == "..");
    if escapes {
        return Err(ConfigError::Refused(format!(
            "error SubPath `{path}` must not be an absolute path or contain '..'"
        )));
    }
    Ok(Some(path))
}

fn unresolved<'e>(expr: &'e str, env: &Environment) -> Option<&'e str> {
    let mut rest = expr;
    while let Some(at) = rest.find("$(") {
        let name = rest[at + 2..].split(')').next().unwrap_or_default();
        if !env.vars.contains_key(name) {
            return Some(name);
        }
        rest = &rest[at + 2..];
    }
    None
}

/// What is done on disk for one container.
pub(super) struct Files {
    pub(super) paths: Paths,
    pub(super) uid: String,
    pub(super) container: String,
    pub(super) planned: Vec<Planned>,
    /// The hosts file's text; none when the container brings its own or the pod has no address yet.
    pub(super) hosts: Option<Hosts>,
    /// Where in the container the termination message is written.
    pub(super) termination_message_path: String,
}

/// What the hosts file is made from.
pub(super) enum Hosts {
    Pod { ips: Vec<IpAddr>, name: PodHostname, aliases: Vec<HostAlias> },
    Node { aliases: Vec<HostAlias> },
}

/// The hosts file that a container gets.
pub(super) fn hosts(
    pod: &Pod,
    container: &Container,
    ips: &[IpAddr],
    cluster_domain: &str,
) -> Result<Option<Hosts>, ConfigError> {
    let own =
        container.volume_mounts.iter().flatten().any(|it| it.mount_path.trim_end_matches('/') == ETC_HOSTS);
    if own || ips.is_empty() {
        return Ok(None);
    }
    let spec = pod.spec.as_ref();
    let aliases = spec.and_then(|it| it.host_aliases.clone()).unwrap_or_default();
    if spec.and_then(|it| it.host_network) == Some(true) {
        return Ok(Some(Hosts::Node { aliases }));
    }
    let name = hosts::pod_hostname(pod, cluster_domain)?;
    Ok(Some(Hosts::Pod { ips: ips.to_vec(), name, aliases }))
}

impl Files {
    /// Binds sub-paths, writes the hosts file, makes the termination log: all of the container's mounts. Blocking.
    pub(super) fn prepare(self) -> Result<Vec<v1::Mount>, ConfigError> {
        let mut mounts = Vec::with_capacity(self.planned.len() + 2);
        for Planned { mut mount, sub_path } in self.planned.iter().cloned() {
            if let Some(sub) = sub_path {
                let target = self.paths.subpath(&self.uid, &sub.volume, &self.container, sub.index);
                volume::bind_subpath(&sub.root, Path::new(&sub.path), &target).map_err(|err| {
                    tracing::debug!(error = %crate::report(&err), "sub-path refused");
                    ConfigError::Refused(format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}",
                        sub.volume, self.container
                    ))
                })?;
                mount.host_path = target.display().to_string();
            }
            mounts.push(mount);
        }
        if let Some(hosts) = &self.hosts {
            mounts.push(own_mount(ETC_HOSTS, &self.hosts_file(hosts)?));
        }
        if !self.termination_message_path.is_empty() {
            mounts.push(own_mount(&self.termination_message_path, &self.termination_log()?));
        }
        Ok(mounts)
    }

    fn hosts_file(&self, hosts: &Hosts) -> Result<PathBuf, ConfigError> {
        let path = self.paths.etc_hosts(&self.uid);
        let text = match hosts {
            Hosts::Pod { ips, name, aliases } => hosts::pod_hosts(ips, name, aliases),
            Hosts::Node { aliases } => {
                let own = std::fs::read_to_string(ETC_HOSTS).map_err(failed("read", Path::new(ETC_HOSTS)))?;
                hosts::host_network_hosts(&own, aliases)
            }
        };
        // Written in place: containers that run have this very file mounted.
        if holds(&path, text.as_bytes()) {
            return Ok(path);
        }
        make_folder(&self.paths.pod(&self.uid))?;
        std::fs::write(&path, text).map_err(failed("write", &path))?;
        set_mode(&path, 0o644)?;
        Ok(path)
    }

    fn termination_log(&self) -> Result<PathBuf, ConfigError> {
        let folder = self.paths.container(&self.uid, &self.container);
        make_folder(&folder)?;
        let path = folder.join(coracle_apimachinery::rand_suffix(8));
        std::fs::write(&path, "").map_err(failed("create", &path))?;
        // Whoever the container runs as must be able to write it.
        set_mode(&path, 0o666)?;
        Ok(path)
    }
}

/// Whether a file is exactly `wanted`. Containers may have written it: however large it is, no more is read than tells.
fn holds(path: &Path, wanted: &[u8]) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    let limit = u64::try_from(wanted.len()).unwrap_or(u64::MAX).saturating_add(1);
    let mut found = Vec::new();
    file.take(limit).read_to_end(&mut found).is_ok_and(|_| found == wanted)
}

fn own_mount(container_path: &str, host_path: &Path) -> v1::Mount {
    v1::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        selinux_relabel: true,
        ..Default::default()
    }
}

fn make_folder(path: &Path) -> Result<(), ConfigError> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(failed("create", path))?;
    set_mode(path, 0o750)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ConfigError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed("set mode of", path))
}

fn failed(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> ConfigError {
    let action = format!("{action} {}", path.display());
    move |source| ConfigError::Io { action, source }
}

/// Everything that [`Files::prepare`] needs.
pub(super) fn files(
    deps: &TranslateDeps,
    pod: &Pod,
    request: &ContainerRequest<'_>,
    env: &Environment,
) -> Result<Files, ConfigError> {
    Ok(Files {
        paths: deps.config.paths.clone(),
        uid: identity(pod).2.to_owned(),
        container: request.container.name.clone(),
        planned: plan(deps, pod, request, env)?,
        hosts: hosts(pod, request.container, request.pod_ips, &deps.config.dns.cluster_domain)?,
        termination_message_path: request.container.termination_message_path.clone().unwrap_or_default(),
    })
}
