use std::os::unix::fs::FileExt;

use super::sqlite::open;
use crate::contract::{put, write};
use crate::{Options, RangeRequest, Sqlite, Store, StoreError, Txn};

/// Damages a store with `harm`, expects a refusal with `reason` in it, and the file as it was.
async fn check(harm: impl FnOnce(&std::path::Path), reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(&path);
    for n in 0..200 {
        write(&store, vec![put(&format!("key-{n}"), &"value".repeat(100))]).await;
    }
    drop(store);
    harm(&path);
    let before = std::fs::read(&path).unwrap();
    let error = Sqlite::open(&path, Options::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

fn overwrite(path: &std::path::Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[tokio::test]
async fn damage_is_named_and_left_alone() {
    check(|path| overwrite(path, 0, b"not a database"), "header").await;
    check(|path| overwrite(path, 68, &[1, 2, 3, 4]), "application id 0x1020304").await;
    check(|path| overwrite(path, 60, &[0, 0, 0, 9]), "layout 9").await;
    check(|path| std::fs::write(path, b"short").unwrap(), "5 bytes").await;
    check(
        |path| {
            let length = std::fs::metadata(path).unwrap().len();
            std::fs::File::options().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        },
        "",
    )
    .await;
}

#[tokio::test]
async fn one_flipped_bit_in_a_value_is_seen() {
    check(
        |path| {
            let bytes = std::fs::read(path).unwrap();
            let at = bytes.windows(10).rposition(|window| window == b"valuevalue").unwrap();
            overwrite(path, at as u64, &[bytes[at] ^ 4]);
        },
        "fails its checksum",
    )
    .await;
}

/// A store as a killed process leaves it: the main file and a log of 50 commits.
async fn killed(folder: &std::path::Path) -> std::path::PathBuf {
    let store = open(&folder.join("running"));
    for n in 0..50 {
        write(&store, vec![put(&format!("key-{n}"), &"value".repeat(100))]).await;
    }
    for suffix in ["", "-wal"] {
        std::fs::copy(folder.join(format!("running{suffix}")), folder.join(format!("killed{suffix}")))
            .unwrap();
    }
    folder.join("killed")
}

#[tokio::test]
async fn a_damaged_log_is_told_from_a_torn_one() {
    let check = async |harm: &dyn Fn(&std::path::Path, u64), expected: Result<i64, &str>| {
        let folder = tempfile::tempdir().unwrap();
        let path = killed(folder.path()).await;
        let log = folder.path().join("killed-wal");
        harm(&log, std::fs::metadata(&log).unwrap().len());
        let before = std::fs::read(&log).unwrap();
        match (Sqlite::open(&path, Options::default()), expected) {
            (Ok(store), Ok(revision)) => assert_eq!(store.revision().await.unwrap(), revision),
            (Err(error), Err(reason)) => {
                assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
                assert!(error.to_string().contains(reason), "{error}");
                assert!(std::fs::read(&log).unwrap() == before, "the log was changed");
            }
            (opened, expected) => panic!("{:?} instead of {expected:?}", opened.map(|_| ())),
        }
    };
    let flip = |path: &std::path::Path, at: u64| {
        let byte = std::fs::read(path).unwrap()[usize::try_from(at).unwrap()];
        overwrite(path, at, &[byte ^ 1]);
    };
    let cut = |path: &std::path::Path, at: u64| {
        std::fs::File::options().write(true).open(path).unwrap().set_len(at).unwrap();
    };
    check(&|_, _| {}, Ok(50)).await;
    check(&|log, length| flip(log, length / 2), Err("commits follow it")).await;
    check(&|log, _| flip(log, 10), Err("header of the write-ahead log")).await;
    // The last commit was never acknowledged if it is not whole.
    check(&|log, length| flip(log, length - 10), Ok(49)).await;
    check(&|log, length| cut(log, length - 10), Ok(49)).await;
    check(&|log, _| cut(log, 0), Ok(0)).await;
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_serves_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = Options { max_bytes: Some(256 * 1024), ..Options::default() };
    let store = Sqlite::open(&path, options).unwrap();
    let big = "x".repeat(10_000);
    let mut written = 0;
    let error = loop {
        // Two keys at once: neither may be there without the other.
        let ops = vec![put(&format!("a{written:03}"), &big), put(&format!("b{written:03}"), &big)];
        match store.txn(Txn { compares: vec![], ops }).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "never full");
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    let count = |start: &str, end: &str| RangeRequest {
        start: start.into(),
        end: Some(end.into()),
        ..RangeRequest::default()
    };
    for (start, end) in [("a", "b"), ("b", "c")] {
        assert_eq!(store.range(count(start, end)).await.unwrap().count, written);
    }
    assert_eq!(store.revision().await.unwrap(), i64::try_from(written).unwrap());
    drop(store);
    // With more room it goes on.
    let store = open(&path);
    let next = i64::try_from(written).unwrap() + 1;
    assert_eq!(write(&store, vec![put("after", "x")]).await, next);
}

const FULL: &str = "CORACLE_TEST_FULL_DISK";

/// Runs inside a file system of one megabyte: fills it up and looks what becomes of it.
#[tokio::test]
async fn on_a_small_disk() {
    let Some(folder) = std::env::var_os(FULL) else { return };
    let path = std::path::Path::new(&folder).join("store");
    let store = open(&path);
    let big = "x".repeat(20_000);
    let mut written = 0;
    let error = loop {
        let ops = vec![put(&format!("a{written:03}"), &big), put(&format!("b{written:03}"), &big)];
        match store.txn(Txn { compares: vec![], ops }).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "never full");
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    let all = || RangeRequest { start: "a".into(), end: Some("c".into()), ..RangeRequest::default() };
    assert_eq!(store.range(all()).await.unwrap().count, written * 2);
    drop(store);
    let store = open(&path);
    assert_eq!(store.range(all()).await.unwrap().count, written * 2, "after a restart");
    println!("filled with {written}");
}

#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$1\" && exec \"$2\" --exact tests::damage::on_a_small_disk --nocapture";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .env(FULL, folder.path())
        .output()
        .expect("this test needs unshare(1)");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("filled with"), "{said}");
}
