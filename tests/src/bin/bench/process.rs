//! Memory and processor time of the coracle process, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};
use coracle_tests::Cluster;

use crate::figures::row;

/// The process as this program's /proc shows it: the cluster's pid file speaks of its own pid namespace.
pub fn pid_of(cluster: &Cluster) -> Result<u32> {
    let needle = format!("--data-dir\0{}\0", cluster.data_dir().display());
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("coracle\0server\0") && line.contains(&needle) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no coracle process for {}", cluster.data_dir().display())
}

/// Memory now, and processor time over some seconds of idleness.
pub async fn report(when: &str, pid: u32, seconds: u64) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = ticks(pid)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = (ticks(pid)? - before) as f64 / 100.0;
    report_memory(when, pid)?;
    row(
        &format!("idle processor time, {when}"),
        &format!("{:.2} % of a core", used / seconds as f64 * 100.0),
    );
    Ok(())
}

/// Memory now.
pub fn report_memory(when: &str, pid: u32) -> Result<()> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's status")?;
    let mib = |key: &str| {
        let line = status.lines().find(|it| it.starts_with(key)).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
        kib / 1024.0
    };
    row(
        &format!("resident memory, {when}"),
        &format!("{:.1} MiB ({:.1} anonymous)", mib("VmRSS:"), mib("RssAnon:")),
    );
    Ok(())
}

/// User and system time in hundredths of a second.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    let after = stat.rsplit_once(')').context("a stat line has a name in parentheses")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // utime and stime are fields 14 and 15 of the line, 12 and 13 of what follows the name.
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}
