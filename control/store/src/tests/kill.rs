//! Kills a process at random moments while it writes, and looks whether everything it was told is written is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::sqlite::open;
use crate::contract::put;
use crate::{RangeRequest, Store, Txn};

const PATH: &str = "CORACLE_TEST_STORE";

/// The process that gets killed: writes pairs of keys from several tasks and prints each number once it is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let store = open(std::path::Path::new(&path));
    let first = store.revision().await.unwrap();
    let tasks = (0..8).map(|task| {
        let store = &store;
        async move {
            for n in 0.. {
                let number = first * 1_000_000 + n * 8 + task;
                let value = number.to_string().repeat(50);
                let ops =
                    vec![put(&format!("a/{number:020}"), &value), put(&format!("b/{number:020}"), &value)];
                store.txn(Txn { compares: vec![], ops }).await.unwrap();
                writeln!(std::io::stdout(), "durable {number}").unwrap();
                if n % 100 == 99 {
                    let _ = store.compact(store.revision().await.unwrap()).await;
                }
            }
        }
    });
    futures::future::join_all(tasks).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut durable = Vec::new();
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::kill::victim", "--nocapture", "--test-threads=1"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let before = durable.len();
        let mut started: Option<Instant> = None;
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            // The test harness prints the test's name in front of the first line.
            if let Some((_, number)) = line.split_once("durable ") {
                durable.push(number.to_owned());
                let since = *started.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(round * 37 % 150) {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(durable.len() > before, "round {round}: the victim wrote nothing");
        let store = open(&path);
        let keys = |prefix: &str| RangeRequest {
            start: format!("{prefix}/"),
            end: Some(format!("{prefix}0")),
            ..RangeRequest::default()
        };
        let mut found = Vec::new();
        for prefix in ["a", "b"] {
            let kvs = store.range(keys(prefix)).await.unwrap().kvs;
            let names: std::collections::BTreeMap<_, _> =
                kvs.into_iter().map(|kv| (kv.key[2..].to_owned(), kv.mod_revision)).collect();
            found.push(names);
        }
        assert_eq!(found[0], found[1], "round {round}: a transaction was half applied");
        for number in &durable {
            assert!(found[0].contains_key(&format!("{number:0>20}")), "round {round}: {number} was lost");
        }
        let newest = found[0].values().max().copied();
        assert_eq!(store.revision().await.unwrap(), newest.unwrap());
    }
}
