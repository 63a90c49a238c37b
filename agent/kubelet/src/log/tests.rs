//! The rotator over the fake runtime and real files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_cri::fake::{FakeConfig, FakeRuntime, Fault};
use tokio_util::sync::CancellationToken;

use super::{RotatorDeps, run};
use crate::config::{LogSettings, Paths};
use crate::worker::Roster;
use crate::worker::tests::{dsl, home::Bench};

struct Node {
    fake: FakeRuntime,
    bench: Bench,
    roster: Arc<Roster>,
    folder: tempfile::TempDir,
    token: CancellationToken,
}

impl Node {
    async fn start() -> Self {
        let fake = FakeRuntime::new(FakeConfig::default());
        let (bench, roster) = Bench::roster(Arc::new(fake.clone()));
        roster.sources_synced();
        roster.put(bench.create(&dsl::pod("always: app")));
        bench.phase("u1", "Running").await;
        let folder = tempfile::tempdir().unwrap();
        Self { fake, bench, roster, folder, token: CancellationToken::new() }
    }

    fn log(&self) -> PathBuf {
        let pod = self.bench.get("u1").unwrap();
        let paths = Paths::new("/none", self.folder.path());
        let folder = paths.pod_log_dir(crate::pod::namespace(&pod), crate::pod::name(&pod), "u1").join("app");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("0.log")
    }

    fn rotate(&self) {
        let settings = LogSettings {
            max_size: Some(100),
            max_files: 3,
            max_workers: 1,
            monitor_interval: Duration::from_millis(300),
        };
        let deps = RotatorDeps {
            runtime: Arc::new(self.fake.clone()),
            roster: self.roster.clone(),
            settings,
            paths: Paths::new("/none", self.folder.path()),
        };
        tokio::spawn(run(deps, self.token.clone()));
    }

    fn reopened(&self) -> usize {
        self.fake.calls().iter().filter(|it| it.starts_with("ReopenContainerLog")).count()
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

fn files(log: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(log.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_log_that_grows_too_large_is_rotated_and_an_old_one_compressed() {
    let node = Node::start().await;
    let log = node.log();
    let old = format!("{}.20200101-000000", log.display());
    let oldest = format!("{}.20190101-000000.gz", log.display());
    for (path, text) in [(log.to_str().unwrap(), "small"), (&old, "old"), (&oldest, "oldest")] {
        std::fs::write(path, text).unwrap();
    }
    node.rotate();
    // It sleeps; the first write wakes it.
    std::fs::write(&log, "x".repeat(150)).unwrap();
    until("the runtime was told", || node.reopened() == 1).await;
    until("two are left", || files(&log).len() == 2).await;
    let names = files(&log);
    assert_eq!(names[0], "0.log.20200101-000000.gz");
    let rotated = log.with_file_name(&names[1]);
    assert_eq!(std::fs::read_to_string(rotated).unwrap().len(), 150);
}

#[tokio::test]
async fn a_log_that_the_runtime_does_not_open_again_keeps_its_name() {
    let node = Node::start().await;
    let log = node.log();
    std::fs::write(&log, "x".repeat(150)).unwrap();
    let refusal = Fault::Fail(coracle_cri::Code::Unknown, "no".into());
    node.fake.inject("ReopenContainerLog", refusal, 1);
    node.rotate();
    until("tried again", || node.reopened() == 2).await;
    until("rotated", || files(&log).len() == 1 && !log.exists()).await;
}

#[tokio::test]
async fn a_log_whose_file_is_missing_is_opened_again() {
    let node = Node::start().await;
    let log = node.log();
    node.rotate();
    until("reopened", || node.reopened() > 0).await;
    assert!(!log.exists());
}

#[tokio::test]
async fn the_log_of_an_ended_container_is_left_alone() {
    let node = Node::start().await;
    let log = node.log();
    std::fs::write(&log, "small").unwrap();
    node.rotate();
    node.roster.remove("u1", Duration::ZERO);
    until("gone", || node.roster.entries().is_empty()).await;
    let before = node.reopened();
    std::fs::write(&log, "x".repeat(150)).unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((node.reopened(), files(&log).len()), (before, 1));
}
