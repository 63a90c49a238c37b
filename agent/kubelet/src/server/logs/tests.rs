use std::io::Write;

use super::*;

const LOG: &str = "2026-11-20T10:00:00.000000001Z stdout F one\n\
2026-11-20T10:00:01.5Z stderr F two\n\
2026-11-20T10:00:02Z stdout P thr\n\
2026-11-20T10:00:02.1Z stdout F ee\n\
not a line of a log\n\
2026-11-20T10:00:03Z stdout F \n\
2026-11-20T10:00:04Z stdout F four\n";

async fn read(log: &str, options: LogOptions) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(log.as_bytes()).unwrap();
    let mut log = LogFile::open(file.path().to_owned(), &options).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = log.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn options_choose_lines() {
    let none = LogOptions::default;
    let check = async |options: LogOptions, want: &str| {
        assert_eq!(read(LOG, options.clone()).await, want, "{options:?}");
    };
    check(none(), "one\ntwo\nthree\n\nfour\n").await;
    check(LogOptions { tail: Some(0), ..none() }, "").await;
    check(LogOptions { tail: Some(1), ..none() }, "four\n").await;
    check(LogOptions { tail: Some(2), ..none() }, "\nfour\n").await;
    check(LogOptions { tail: Some(99), ..none() }, "one\ntwo\nthree\n\nfour\n").await;
    check(LogOptions { limit: Some(6), ..none() }, "one\ntw").await;
    check(LogOptions { since: Some("2026-11-20T10:00:02.1Z".parse().unwrap()), ..none() }, "ee\n\nfour\n")
        .await;
    check(LogOptions { stream: Some(line::Stream::Stderr), ..none() }, "two\n").await;
    check(
        LogOptions { timestamps: true, tail: Some(5), ..none() },
        "2026-11-20T10:00:02Z three\n2026-11-20T10:00:03Z \n2026-11-20T10:00:04Z four\n",
    )
    .await;
}

#[tokio::test]
async fn a_tail_is_found_across_blocks() {
    let log: String = (0..5000).map(|n| format!("2026-11-20T10:00:00Z stdout F line {n}\n")).collect();
    for lines in [1, 2, 333, 4999, 5000, 6000] {
        let tail = read(&log, LogOptions { tail: Some(lines), ..LogOptions::default() }).await;
        let first = 5000u64.saturating_sub(lines);
        assert_eq!(tail.lines().count() as u64, 5000 - first);
        assert_eq!(tail.lines().next().unwrap(), format!("line {first}"));
    }
}

#[tokio::test]
async fn a_rotated_log_goes_on_in_the_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    let line = |text: &str| format!("2026-11-20T10:00:00Z stdout F {text}\n");
    std::fs::write(&path, line("old")).unwrap();
    let mut log = LogFile::open(path.clone(), &LogOptions::default()).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap(), "old\n");
    assert!(log.next().await.unwrap().is_none());
    assert!(!log.rotated().await);
    let mut changes = Changes::of(&path);
    let old = folder.path().join("0.log.1");
    std::fs::rename(&path, &old).unwrap();
    std::fs::OpenOptions::new().append(true).open(&old).unwrap().write_all(line("late").as_bytes()).unwrap();
    std::fs::write(&path, line("new")).unwrap();
    changes.wait().await;
    assert!(log.rotated().await);
    assert_eq!(log.next().await.unwrap().unwrap(), "late\n");
    assert!(log.next().await.unwrap().is_none());
    assert!(log.rotated().await);
    assert_eq!(log.next().await.unwrap().unwrap(), "new\n");
}
