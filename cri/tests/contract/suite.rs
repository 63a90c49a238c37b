//! The suite.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use coracle_cri::RuntimeHandle;
use coracle_cri::proto::{self as v1, ContainerState, PodSandboxState};

/// The image that the runtime under test knows.
pub const IMAGE: &str = "docker.io/library/contract:1";

/// A hostNetwork sandbox: no network plugin is asked.
pub fn sandbox_config(name: &str, folder: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "contract".to_owned(),
            attempt: 0,
        }),
        log_directory: folder.to_owned(),
        labels: HashMap::from([
            ("suite".to_owned(), "contract".to_owned()),
            ("name".to_owned(), name.to_owned()),
        ]),
        annotations: HashMap::from([("note".to_owned(), "kept".to_owned())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    network: v1::NamespaceMode::Node.into(),
                    pid: v1::NamespaceMode::Container.into(),
                    ..v1::NamespaceOption::default()
                }),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        ..v1::PodSandboxConfig::default()
    }
}

/// A container that runs a shell line.
pub fn container_config(name: &str, command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: IMAGE.to_owned(), ..v1::ImageSpec::default() }),
        command: command.iter().map(|it| (*it).to_owned()).collect(),
        labels: HashMap::from([("container".to_owned(), name.to_owned())]),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    network: v1::NamespaceMode::Node.into(),
                    pid: v1::NamespaceMode::Container.into(),
                    ..v1::NamespaceOption::default()
                }),
                ..v1::LinuxContainerSecurityContext::default()
            }),
            ..v1::LinuxContainerConfig::default()
        }),
        ..v1::ContainerConfig::default()
    }
}

const POLITE: &[&str] = &["/bin/sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.05; done"];
const STUBBORN: &[&str] = &["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
const SEVEN: &[&str] = &["/bin/sh", "-c", "exit 7"];
const BROKEN: &[&str] = &["/no/such"];

/// All of it.
pub async fn run(runtime: RuntimeHandle) {
    the_runtime_is_ready(&runtime).await;
    images_are_found_and_missed(&runtime).await;
    what_is_not_there_can_be_stopped_and_removed(&runtime).await;
    let folder = tempfile::tempdir().unwrap();
    let config = sandbox_config("main", folder.path().to_str().unwrap());
    let sandbox = runtime.run_pod_sandbox(config.clone(), "").await.unwrap();
    sandboxes_are_listed_and_unique(&runtime, &sandbox, &config).await;
    let create = async |name: &str, command: &[&str]| {
        runtime.create_container(&sandbox, container_config(name, command), config.clone()).await.unwrap()
    };
    let polite = create("polite", POLITE).await;
    a_container_lives(&runtime, &sandbox, &polite).await;
    a_container_dies_by_itself(&runtime, &create("seven", SEVEN).await).await;
    a_stubborn_one_is_killed_after_its_grace(&runtime, &create("stubborn", STUBBORN).await).await;
    a_broken_one_does_not_start(&runtime, &create("broken", BROKEN).await).await;
    a_polite_one_ends_on_term(&runtime, &polite).await;
    a_stopped_sandbox_takes_its_containers_along(&runtime, &sandbox, &create("again", POLITE).await).await;
}

async fn the_runtime_is_ready(runtime: &RuntimeHandle) {
    assert_eq!(runtime.version().await.unwrap().runtime_api_version, "v1");
    let status = runtime.status(false).await.unwrap().status.unwrap();
    let ready = status.conditions.iter().find(|it| it.r#type == "RuntimeReady").unwrap();
    assert!(ready.status, "{ready:?}");
    // Known or not, it is no error.
    runtime.runtime_config().await.unwrap();
    runtime.container_events().await.unwrap();
    runtime.image_fs_info().await.unwrap();
}

async fn images_are_found_and_missed(runtime: &RuntimeHandle) {
    let image = runtime.image_status(IMAGE).await.unwrap().unwrap();
    assert!(image.repo_tags.iter().any(|it| it == IMAGE), "{image:?}");
    assert_eq!(runtime.image_status(&image.id).await.unwrap().unwrap().id, image.id);
    assert!(runtime.list_images().await.unwrap().iter().any(|it| it.id == image.id));
    assert!(runtime.image_status("docker.io/library/none:1").await.unwrap().is_none());
    runtime.remove_image("docker.io/library/none:1").await.unwrap();
    let spec = v1::ImageSpec { image: "localhost:1/none:1".to_owned(), ..v1::ImageSpec::default() };
    let err = runtime.pull_image(spec, None, None).await.unwrap_err();
    assert!(err.to_string().contains("failed to pull"), "{err}");
}

async fn what_is_not_there_can_be_stopped_and_removed(runtime: &RuntimeHandle) {
    let none = "0123456789abcdef";
    runtime.stop_container(none, Duration::ZERO).await.unwrap();
    runtime.remove_container(none).await.unwrap();
    runtime.stop_pod_sandbox(none).await.unwrap();
    runtime.remove_pod_sandbox(none).await.unwrap();
    assert!(runtime.container_status(none, false).await.unwrap_err().is_not_found());
    assert!(runtime.pod_sandbox_status(none).await.unwrap_err().is_not_found());
    assert!(runtime.start_container(none).await.unwrap_err().is_not_found());
    let missing = runtime
        .create_container(none, container_config("x", SEVEN), sandbox_config("x", "/tmp"))
        .await
        .unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
}

async fn sandboxes_are_listed_and_unique(runtime: &RuntimeHandle, id: &str, config: &v1::PodSandboxConfig) {
    let again = runtime.run_pod_sandbox(config.clone(), "").await.unwrap_err();
    assert!(again.to_string().contains("reserve"), "{again}");
    let status = runtime.pod_sandbox_status(id).await.unwrap().status.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!((status.metadata, status.labels), (config.metadata.clone(), config.labels.clone()));
    assert_eq!(status.annotations, config.annotations);
    let listed = async |key: &str, value: &str| {
        let filter = v1::PodSandboxFilter {
            label_selector: HashMap::from([(key.to_owned(), value.to_owned())]),
            ..v1::PodSandboxFilter::default()
        };
        let found = runtime.list_pod_sandboxes(Some(filter)).await.unwrap();
        found.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed("name", "main").await, [id]);
    assert!(listed("name", "other").await.is_empty());
}

async fn a_container_lives(runtime: &RuntimeHandle, sandbox: &str, id: &str) {
    assert_eq!(status(runtime, id).await.state(), ContainerState::ContainerCreated);
    runtime.start_container(id).await.unwrap();
    let running = status(runtime, id).await;
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at && running.finished_at == 0, "{running:?}");
    assert!(running.log_path.ends_with("/polite.log"), "{}", running.log_path);
    assert!(runtime.start_container(id).await.is_err(), "started twice");
    let filter = v1::ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..v1::ContainerFilter::default() };
    let listed = runtime.list_containers(Some(filter)).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id]);
    let line = "echo out; echo err >&2; exit 3";
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let done = runtime.exec_sync(id, command, Duration::from_secs(10)).await.unwrap();
    assert_eq!((done.stdout, done.stderr, done.exit_code), (b"out\n".to_vec(), b"err\n".to_vec(), 3));
    runtime.reopen_container_log(id).await.unwrap();
    let stats = runtime.list_container_stats(None).await.unwrap();
    assert!(stats.iter().any(|it| it.attributes.as_ref().is_some_and(|it| it.id == id)), "{stats:?}");
}

async fn a_container_dies_by_itself(runtime: &RuntimeHandle, id: &str) {
    runtime.start_container(id).await.unwrap();
    let ended = until_exited(runtime, id).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    // Not later than `started_at`: containerd stamps that when its call returns, and a short life is over by then.
    assert!(ended.finished_at >= ended.created_at, "{ended:?}");
    runtime.stop_container(id, Duration::ZERO).await.unwrap();
    runtime.remove_container(id).await.unwrap();
    runtime.remove_container(id).await.unwrap();
    assert!(runtime.container_status(id, false).await.unwrap_err().is_not_found());
}

async fn a_stubborn_one_is_killed_after_its_grace(runtime: &RuntimeHandle, id: &str) {
    runtime.start_container(id).await.unwrap();
    let before = Instant::now();
    runtime.stop_container(id, Duration::from_secs(1)).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(900), "{:?}", before.elapsed());
    assert_eq!(until_exited(runtime, id).await.exit_code, 137);
}

async fn a_broken_one_does_not_start(runtime: &RuntimeHandle, id: &str) {
    let err = runtime.start_container(id).await.unwrap_err();
    assert!(err.to_string().contains("no such file or directory"), "{err}");
    let ended = until_exited(runtime, id).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (128, "StartError"));
}

async fn a_polite_one_ends_on_term(runtime: &RuntimeHandle, id: &str) {
    let before = Instant::now();
    runtime.stop_container(id, Duration::from_secs(20)).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    assert_eq!(until_exited(runtime, id).await.exit_code, 143);
}

async fn a_stopped_sandbox_takes_its_containers_along(runtime: &RuntimeHandle, sandbox: &str, id: &str) {
    runtime.start_container(id).await.unwrap();
    runtime.stop_pod_sandbox(sandbox).await.unwrap();
    assert_eq!(until_exited(runtime, id).await.exit_code, 137);
    let status = runtime.pod_sandbox_status(sandbox).await.unwrap().status.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    runtime.stop_pod_sandbox(sandbox).await.unwrap();
    runtime.remove_pod_sandbox(sandbox).await.unwrap();
    runtime.remove_pod_sandbox(sandbox).await.unwrap();
    assert!(runtime.list_containers(None).await.unwrap().is_empty());
    assert!(runtime.list_pod_sandboxes(None).await.unwrap().is_empty());
}

async fn status(runtime: &RuntimeHandle, id: &str) -> v1::ContainerStatus {
    runtime.container_status(id, false).await.unwrap().status.unwrap()
}

/// Waits for the exit, at most ten seconds.
pub async fn until_exited(runtime: &RuntimeHandle, id: &str) -> v1::ContainerStatus {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = status(runtime, id).await;
        if seen.state() == ContainerState::ContainerExited {
            return seen;
        }
        assert!(Instant::now() < deadline, "{id} does not end: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
