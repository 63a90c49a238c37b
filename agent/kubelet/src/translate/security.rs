//! Security contexts: the pod's and the container's made one, in CRI's words.

use std::path::Path;

use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

use super::{ConfigError, ContainerRole, ImageFacts};
use crate::config::KubeletConfig;
use crate::resources::all_containers;

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The sandbox's context.
pub(super) fn sandbox(pod: &Pod) -> v1::LinuxSandboxSecurityContext {
    let own = pod_context(pod);
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, &ContainerRole::App)),
        selinux_options: own.and_then(|it| it.se_linux_options.as_ref()).map(selinux),
        run_as_user: own.and_then(|it| it.run_as_user).map(int64),
        run_as_group: own.and_then(|it| it.run_as_group).map(int64),
        supplemental_groups: groups(own),
        supplemental_groups_policy: groups_policy(own).into(),
        privileged: is_privileged(pod),
        // The pause process needs no more than this, whatever its containers may do.
        seccomp: Some(profile(v1::security_profile::ProfileType::RuntimeDefault, String::new())),
        ..Default::default()
    }
}

/// The container's context; refuses a container that must not be root and would be.
pub(super) fn container(
    pod: &Pod,
    container: &Container,
    role: &ContainerRole,
    image: &ImageFacts,
    config: &KubeletConfig,
) -> Result<v1::LinuxContainerSecurityContext, ConfigError> {
    let (outer, inner) = (pod_context(pod), container.security_context.as_ref());
    let image_user = image_user(image);
    verify_non_root(pod, container, image_user, &image.username)?;
    let user = inner.and_then(|it| it.run_as_user).or_else(|| outer.and_then(|it| it.run_as_user));
    let group = inner.and_then(|it| it.run_as_group).or_else(|| outer.and_then(|it| it.run_as_group));
    let unmasked = inner.and_then(|it| it.proc_mount.as_deref()) == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|it| (*it).to_owned()).collect() };
    let apparmor = apparmor(pod, container);
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: inner.and_then(|it| it.capabilities.as_ref()).map(|it| v1::Capability {
            add_capabilities: it.add.clone().unwrap_or_default(),
            drop_capabilities: it.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: inner.and_then(|it| it.privileged).unwrap_or_default(),
        namespace_options: Some(namespaces(pod, role)),
        selinux_options: inner
            .and_then(|it| it.se_linux_options.as_ref())
            .or_else(|| outer.and_then(|it| it.se_linux_options.as_ref()))
            .map(selinux),
        run_as_user: user.or(image_user).map(int64),
        run_as_username: if user.is_some() { String::new() } else { image.username.clone() },
        run_as_group: group.map(int64),
        readonly_rootfs: inner.and_then(|it| it.read_only_root_filesystem).unwrap_or_default(),
        supplemental_groups: groups(outer),
        supplemental_groups_policy: groups_policy(outer).into(),
        no_new_privs: inner.and_then(|it| it.allow_privilege_escalation) == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(seccomp(outer, inner, config)?),
        apparmor_profile: apparmor.as_ref().map(deprecated_apparmor).unwrap_or_default(),
        apparmor,
        ..Default::default()
    })
}

/// Network, process and IPC namespaces.
pub(super) fn namespaces(pod: &Pod, role: &ContainerRole) -> v1::NamespaceOption {
    use v1::NamespaceMode::{Container, Node, Pod as Own, Target};
    let spec = pod.spec.as_ref();
    let is = |it: Option<bool>| it == Some(true);
    let on_host = |it: Option<bool>| if is(it) { Node } else { Own };
    let mut pid = if spec.is_some_and(|it| is(it.host_pid)) {
        Node
    } else if spec.is_some_and(|it| is(it.share_process_namespace)) {
        Own
    } else {
        Container
    };
    let mut target = String::new();
    if let (ContainerRole::Ephemeral { target_id: Some(id) }, Container) = (role, pid) {
        pid = Target;
        target.clone_from(id);
    }
    v1::NamespaceOption {
        network: on_host(spec.and_then(|it| it.host_network)).into(),
        ipc: on_host(spec.and_then(|it| it.host_ipc)).into(),
        pid: pid.into(),
        target_id: target,
        userns_options: None,
    }
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

/// Whether any container of the pod is privileged: its sandbox must be, too.
pub(super) fn is_privileged(pod: &Pod) -> bool {
    all_containers(pod).any(|it| it.security_context.as_ref().and_then(|it| it.privileged) == Some(true))
}

/// An image that names no user runs as root.
fn image_user(image: &ImageFacts) -> Option<i64> {
    image.uid.or_else(|| image.username.is_empty().then_some(0))
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    uid: Option<i64>,
    username: &str,
) -> Result<(), ConfigError> {
    let (outer, inner) = (pod_context(pod), container.security_context.as_ref());
    let wanted = inner.and_then(|it| it.run_as_non_root).or_else(|| outer.and_then(|it| it.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let (namespace, name, pod_uid) = super::labels::identity(pod);
    let of = format!("(pod: \"{name}_{namespace}({pod_uid})\", container: {})", container.name);
    let refuse = |text: String| Err(ConfigError::Refused(format!("{text} {of}")));
    match inner.and_then(|it| it.run_as_user).or_else(|| outer.and_then(|it| it.run_as_user)) {
        Some(0) => return refuse("container's runAsUser breaks non-root policy".to_owned()),
        Some(_) => return Ok(()),
        None => {}
    }
    match uid {
        Some(0) => refuse("container has runAsNonRoot and image will run as root".to_owned()),
        Some(_) => Ok(()),
        None => refuse(format!(
            "container has runAsNonRoot and image has non-numeric user ({username}), cannot verify user is non-root"
        )),
    }
}

fn groups(outer: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(outer) = outer else { return Vec::new() };
    outer.fs_group.into_iter().chain(outer.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(outer: Option<&PodSecurityContext>) -> v1::SupplementalGroupsPolicy {
    match outer.and_then(|it| it.supplemental_groups_policy.as_deref()) {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict,
        _ => v1::SupplementalGroupsPolicy::Merge,
    }
}

fn seccomp(
    outer: Option<&PodSecurityContext>,
    inner: Option<&SecurityContext>,
    config: &KubeletConfig,
) -> Result<v1::SecurityProfile, ConfigError> {
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let wanted: Option<&SeccompProfile> = inner
        .and_then(|it| it.seccomp_profile.as_ref())
        .or_else(|| outer.and_then(|it| it.seccomp_profile.as_ref()));
    let Some(wanted) = wanted else {
        let kind = if config.pods.seccomp_default { RuntimeDefault } else { Unconfined };
        return Ok(profile(kind, String::new()));
    };
    match wanted.type_.as_str() {
        "RuntimeDefault" => Ok(profile(RuntimeDefault, String::new())),
        "Localhost" => match wanted.localhost_profile.as_deref().filter(|it| !it.is_empty()) {
            Some(name) => Ok(profile(Localhost, below(&config.paths.seccomp_profile(""), name))),
            None => Err(ConfigError::Refused(
                "localhostProfile must be set if seccompProfile type is Localhost.".to_owned(),
            )),
        },
        _ => Ok(profile(Unconfined, String::new())),
    }
}

fn below(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn apparmor(pod: &Pod, container: &Container) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let field: Option<&AppArmorProfile> = container
        .security_context
        .as_ref()
        .and_then(|it| it.app_armor_profile.as_ref())
        .or_else(|| pod_context(pod).and_then(|it| it.app_armor_profile.as_ref()));
    if let Some(field) = field {
        return Some(match field.type_.as_str() {
            "Localhost" => profile(Localhost, field.localhost_profile.clone().unwrap_or_default()),
            "RuntimeDefault" => profile(RuntimeDefault, String::new()),
            _ => profile(Unconfined, String::new()),
        });
    }
    let key = format!("{APPARMOR_ANNOTATION}{}", container.name);
    let text = pod.metadata.annotations.as_ref()?.get(&key)?;
    Some(match text.as_str() {
        "unconfined" => profile(Unconfined, String::new()),
        text => match text.strip_prefix("localhost/") {
            Some(name) => profile(Localhost, name.to_owned()),
            None => profile(RuntimeDefault, String::new()),
        },
    })
}

/// Runtimes before the profile message read this text.
fn deprecated_apparmor(profile: &v1::SecurityProfile) -> String {
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    match profile.profile_type() {
        RuntimeDefault => "runtime/default".to_owned(),
        Unconfined => "unconfined".to_owned(),
        Localhost => format!("localhost/{}", profile.localhost_ref),
    }
}

fn profile(kind: v1::security_profile::ProfileType, localhost_ref: String) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn selinux(options: &SELinuxOptions) -> v1::SeLinuxOption {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    v1::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        pod_context: &str,
        own: &str,
        uid: Option<i64>,
        username: &str,
    ) -> Result<v1::LinuxContainerSecurityContext, String> {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},
               "spec":{{"securityContext":{pod_context},"containers":[{{"name":"c","securityContext":{own}}}]}}}}"#
        ))
        .unwrap();
        let image =
            ImageFacts { image_ref: "i".into(), uid, username: username.into(), ..ImageFacts::default() };
        let config = crate::config::testing::config(Path::new("/r"));
        let spec = pod.spec.as_ref().unwrap();
        container(&pod, &spec.containers[0], &ContainerRole::App, &image, &config)
            .map_err(|it| it.to_string())
    }

    #[test]
    fn the_user_is_the_containers_the_pods_or_the_images() {
        let check = |outer: &str, own: &str, uid, username: &str, want: (Option<i64>, &str)| {
            let got = run(outer, own, uid, username).unwrap();
            assert_eq!(
                (got.run_as_user.map(|it| it.value), got.run_as_username.as_str()),
                want,
                "{outer} {own}"
            );
        };
        check("{}", "{}", None, "", (Some(0), ""));
        check("{}", "{}", Some(7), "", (Some(7), ""));
        check("{}", "{}", None, "web", (None, "web"));
        check(r#"{"runAsUser":5}"#, "{}", None, "web", (Some(5), ""));
        check(r#"{"runAsUser":5}"#, r#"{"runAsUser":6}"#, None, "", (Some(6), ""));
    }

    #[test]
    fn root_is_refused_where_it_is_not_wanted() {
        let check = |own: &str, uid, username: &str, want: Option<&str>| {
            let got = run(r#"{"runAsNonRoot":true}"#, own, uid, username).err();
            let want = want.map(|it| format!("{it} (pod: \"p_n(u)\", container: c)"));
            assert_eq!(got, want, "{own} {uid:?} {username}");
        };
        check("{}", Some(1000), "", None);
        check(r#"{"runAsUser":1}"#, None, "", None);
        check(r#"{"runAsNonRoot":false}"#, Some(0), "", None);
        check("{}", None, "", Some("container has runAsNonRoot and image will run as root"));
        check(r#"{"runAsUser":0}"#, Some(1), "", Some("container's runAsUser breaks non-root policy"));
        check(
            "{}",
            None,
            "web",
            Some(
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
            ),
        );
    }

    #[test]
    fn profiles_groups_and_paths_are_carried_over() {
        let got = run(
            r#"{"fsGroup":9,"supplementalGroups":[1,2],"supplementalGroupsPolicy":"Strict","seccompProfile":{"type":"RuntimeDefault"}}"#,
            r#"{"seccompProfile":{"type":"Localhost","localhostProfile":"a.json"},"procMount":"Unmasked",
               "allowPrivilegeEscalation":false,"appArmorProfile":{"type":"Localhost","localhostProfile":"x"},
               "capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]},"readOnlyRootFilesystem":true}"#,
            Some(1),
            "",
        )
        .unwrap();
        assert_eq!(got.supplemental_groups, [9, 1, 2]);
        assert_eq!(got.supplemental_groups_policy(), v1::SupplementalGroupsPolicy::Strict);
        assert_eq!(got.seccomp.unwrap().localhost_ref, "/r/kubelet/seccomp/a.json");
        assert_eq!(got.apparmor_profile, "localhost/x");
        assert!(got.masked_paths.is_empty() && got.no_new_privs && got.readonly_rootfs);
        assert_eq!(got.capabilities.unwrap().drop_capabilities, ["ALL"]);
    }

    #[test]
    fn namespaces_are_shared_as_asked() {
        use v1::NamespaceMode::{Container, Node, Pod as Own, Target};
        let check = |spec: &str, role: ContainerRole, want: [v1::NamespaceMode; 3]| {
            let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{{"containers":[]{spec}}}}}"#)).unwrap();
            let got = namespaces(&pod, &role);
            assert_eq!([got.network(), got.pid(), got.ipc()], want, "{spec}");
        };
        let debug = ContainerRole::Ephemeral { target_id: Some("t".into()) };
        check("", ContainerRole::App, [Own, Container, Own]);
        check(r#","hostNetwork":true,"hostIPC":true"#, ContainerRole::App, [Node, Container, Node]);
        check(r#","hostPID":true"#, debug.clone(), [Own, Node, Own]);
        check(r#","shareProcessNamespace":true"#, ContainerRole::App, [Own, Own, Own]);
        check("", debug, [Own, Target, Own]);
    }
}
