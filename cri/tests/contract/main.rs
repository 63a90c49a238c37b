//! One suite that every runtime of ours must pass, so that the fake cannot lie: on the fake, and on a real containerd.
//!
//! The real one runs with a root, state and socket of its own, on an image made of busybox here.
#![allow(clippy::unwrap_used, reason = "a test")]

mod containerd;
mod streaming;
mod suite;

use std::sync::Arc;

use coracle_cri::Remote;
use coracle_cri::fake::{Ending, FakeConfig, FakeRuntime, Run, Script};
use coracle_cri::proto as v1;

/// The fake, with the lives that the suite's commands have on a real runtime.
#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeRuntime::new(FakeConfig { pull_anything: false, ..FakeConfig::default() });
    fake.add_image(suite::IMAGE, 1 << 20);
    let term = |after: u64| std::time::Duration::from_millis(after);
    fake.script(
        "seven",
        Script::of([Run {
            ending: Some(Ending { after: term(50), exit_code: 7, reason: String::new() }),
            ..Run::default()
        }]),
    );
    fake.script("stubborn", Script::of([Run::ignores_term()]));
    fake.script("polite", Script { runs: vec![Run::default()], exec: Some(Arc::new(shell)) });
    fake.script(
        "broken",
        Script::of([Run {
            start_error: Some("exec: \"/no/such\": no such file or directory".to_owned()),
            ..Run::default()
        }]),
    );
    suite::run(Arc::new(fake)).await;
}

/// What the suite's commands do in a shell.
fn shell(command: &[String]) -> v1::ExecSyncResponse {
    match command.last().map(String::as_str) {
        Some("echo out; echo err >&2; exit 3") => {
            v1::ExecSyncResponse { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), exit_code: 3 }
        }
        other => panic!("the fake has no script for {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_keeps_the_contract() {
    let containerd = containerd::Containerd::start().await;
    let remote = Remote::connect(&containerd.endpoint()).unwrap();
    suite::run(Arc::new(remote)).await;
}
