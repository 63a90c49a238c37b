//! A container's last words: its termination log, or the end of its log.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use coracle_cri::proto as v1;

use crate::translate::keys;

/// No message is longer, upstream says.
const MAX_MESSAGE: u64 = 4096;
/// What is taken of a log instead.
const MAX_LOG: u64 = 2048;
/// And no more lines than this.
const MAX_LINES: usize = 80;

/// What the container left in its termination log; when that is empty, the container failed, and the pod says
/// `FallbackToLogsOnError`, the end of its log; else what the runtime says.
pub(super) async fn message(status: &v1::ContainerStatus) -> String {
    let path = status.annotations.get(keys::TERMINATION_MESSAGE_PATH).filter(|it| !it.is_empty());
    let file = path.and_then(|path| status.mounts.iter().find(|it| it.container_path == *path));
    let file = file.map(|it| it.host_path.clone());
    let policy = status.annotations.get(keys::TERMINATION_MESSAGE_POLICY);
    let fall_back = policy.is_some_and(|it| it == "FallbackToLogsOnError") && status.exit_code != 0;
    let log = (fall_back && !status.log_path.is_empty()).then(|| status.log_path.clone());
    let read = tokio::task::spawn_blocking(move || {
        let words = file.and_then(|it| head(Path::new(&it))).filter(|it| !it.is_empty());
        words.or_else(|| log.and_then(|it| tail_of_log(Path::new(&it))))
    });
    read.await.ok().flatten().unwrap_or_else(|| status.message.clone())
}

fn head(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_MESSAGE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in CRI's format, without time stamps.
fn tail_of_log(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    // Each line carries about 45 bytes of time and stream: read enough to fill the message.
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG * 4))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(last_lines(&String::from_utf8_lossy(&bytes)))
}

fn last_lines(log: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let mut parts = line.splitn(4, ' ');
        let (Some(_), Some("stdout" | "stderr"), Some(tag)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        text.push_str(parts.next().unwrap_or_default());
        if tag.starts_with('F') {
            text.push('\n');
        }
    }
    let from =
        text.char_indices().rev().take(usize::try_from(MAX_LOG).unwrap_or(0)).last().map_or(0, |it| it.0);
    let lines: Vec<&str> = text[from..].split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(MAX_LINES)..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines() {
        let log = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n\
                   2026-01-01T00:00:00Z stderr F o\nnoise\n";
        assert_eq!(last_lines(log), "one\ntwo\n");
        let long: String = (0..100).map(|it| format!("t stdout F {it}\n")).collect();
        assert!(last_lines(&long).starts_with("20\n"));
    }
}
