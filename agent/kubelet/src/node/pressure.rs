//! What is left of memory, disk and processes, and which of it is too little.

use std::path::{Path, PathBuf};

use crate::config::EvictionThreshold;

/// A file system's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FileSystem {
    pub(crate) capacity: i64,
    pub(crate) available: i64,
    pub(crate) inodes: i64,
    pub(crate) inodes_free: i64,
}

/// The file system that `path` lies on.
pub(crate) fn file_system(path: &Path) -> Option<FileSystem> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.fragment_size())).unwrap_or(i64::MAX);
    let count = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    Some(FileSystem {
        capacity: bytes(stat.blocks()),
        available: bytes(stat.blocks_available()),
        inodes: count(stat.files()),
        inodes_free: count(stat.files_free()),
    })
}

/// What is left, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Left {
    pub(super) memory: Option<(i64, i64)>,
    pub(super) pids: Option<(i64, i64)>,
    pub(super) node_fs: Option<FileSystem>,
    pub(super) image_fs: Option<FileSystem>,
}

impl Left {
    /// Reads it. Blocking: a file system can be slow.
    pub(super) fn read(root: &Path, images: Option<&PathBuf>, pids: i64) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = |name: &str| super::machine::meminfo_bytes(&meminfo, name);
        let loadavg = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            memory: bytes("MemAvailable").zip(bytes("MemTotal")),
            pids: running(&loadavg).map(|it| ((pids - it).max(0), pids)),
            node_fs: file_system(root),
            image_fs: images.and_then(|it| file_system(it)),
        }
    }

    /// What is left of a signal, and of how much.
    fn of(&self, signal: &str) -> Option<(i64, i64)> {
        let bytes = |it: Option<FileSystem>| it.map(|it| (it.available, it.capacity));
        // A file system that makes inodes as it needs them says it has none.
        let inodes =
            |it: Option<FileSystem>| it.filter(|it| it.inodes > 0).map(|it| (it.inodes_free, it.inodes));
        match signal {
            "memory.available" => self.memory,
            "pid.available" => self.pids,
            "nodefs.available" => bytes(self.node_fs),
            "nodefs.inodesFree" => inodes(self.node_fs),
            "imagefs.available" | "containerfs.available" => bytes(self.image_fs),
            "imagefs.inodesFree" | "containerfs.inodesFree" => inodes(self.image_fs),
            _ => None,
        }
    }
}

/// The fourth word of `/proc/loadavg`: running and all.
fn running(loadavg: &str) -> Option<i64> {
    loadavg.split(' ').nth(3)?.split('/').nth(1)?.parse().ok()
}

/// Of what there is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pressure {
    pub(super) memory: bool,
    pub(super) disk: bool,
    pub(super) pid: bool,
}

/// Compares what is left with the thresholds: pure.
pub(super) fn pressure(left: &Left, thresholds: &[EvictionThreshold]) -> Pressure {
    let mut pressure = Pressure::default();
    for threshold in thresholds {
        let Some((left, all)) = left.of(&threshold.signal) else { continue };
        if left >= threshold.below.of(all) {
            continue;
        }
        match threshold.signal.split('.').next() {
            Some("memory") => pressure.memory = true,
            Some("pid") => pressure.pid = true,
            _ => pressure.disk = true,
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Threshold;

    #[test]
    fn too_little_of_anything_is_pressure() {
        let check = |signal: &str, below: Threshold, want: (bool, bool, bool)| {
            let fs = FileSystem { capacity: 1000, available: 90, inodes: 100, inodes_free: 50 };
            let left =
                Left { memory: Some((200, 1000)), pids: Some((5, 100)), node_fs: Some(fs), image_fs: None };
            let got = pressure(&left, &[EvictionThreshold { signal: signal.into(), below }]);
            assert_eq!((got.memory, got.disk, got.pid), want, "{signal} {below:?}");
        };
        check("memory.available", Threshold::Amount(200), (false, false, false));
        check("memory.available", Threshold::Amount(201), (true, false, false));
        check("nodefs.available", Threshold::Fraction(0.1), (false, true, false));
        check("nodefs.inodesFree", Threshold::Fraction(0.05), (false, false, false));
        check("imagefs.available", Threshold::Fraction(0.9), (false, false, false));
        check("pid.available", Threshold::Fraction(0.1), (false, false, true));
        assert_eq!(running("0.1 0.2 0.3 2/345 6789\n"), Some(345));
    }
}
