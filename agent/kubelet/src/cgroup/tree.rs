//! The mounted hierarchies: folders made, files written, folders removed. Blocking; knows paths and not pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CgroupError, CgroupStats};
use crate::resources::weight;

/// How often, and how far apart, the removal of a folder that is still busy is tried.
const REMOVE_TRIES: u32 = 40;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// What is written into one cgroup; `None` leaves a file alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `cpu.shares`, or the weight that corresponds.
    pub shares: Option<i64>,
    /// Microseconds per period; −1: no limit.
    pub quota: Option<i64>,
    /// Microseconds.
    pub period: Option<i64>,
    /// Bytes; −1: no limit.
    pub memory: Option<i64>,
    /// Processes; −1: no limit.
    pub pids: Option<i64>,
}

impl Limits {
    /// Of each the one that lets more through; no limit, or none said, lets everything through.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        let most = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) if a < 0 || b < 0 => Some(-1),
            (Some(a), Some(b)) => Some(a.max(b)),
            (Some(_), None) | (None, Some(_)) => Some(-1),
            (None, None) => None,
        };
        Self {
            shares: self.shares.max(other.shares),
            quota: most(self.quota, other.quota),
            period: self.period.or(other.period),
            memory: most(self.memory, other.memory),
            pids: self.pids.or(other.pids),
        }
    }
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct V1 {
    mount: PathBuf,
    controllers: Vec<String>,
}

/// The machine's cgroup mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    v1: Vec<V1>,
    /// The v2 mount: all there is when `v1` is empty, else only cleaned after the runtime.
    v2: Option<PathBuf>,
}

impl Tree {
    /// From the text of `/proc/self/mountinfo`.
    pub fn from_mountinfo(text: &str) -> Self {
        let mut tree = Self { v1: Vec::new(), v2: None };
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") if tree.v2.is_none() => tree.v2 = Some(mount.into()),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    let skip = |it: &&str| !matches!(*it, "rw" | "ro" | "xattr" | "clone_children");
                    let controllers: Vec<String> =
                        options.split(',').filter(skip).map(str::to_owned).collect();
                    if tree.v1.iter().all(|it| it.controllers != controllers) {
                        tree.v1.push(V1 { mount: mount.into(), controllers });
                    }
                }
                _ => {}
            }
        }
        // A lone named hierarchy beside v2 is systemd's own: the controllers are in v2 then.
        if tree.v2.is_some() && tree.v1.iter().all(|it| it.controllers.iter().all(|c| c.starts_with("name=")))
        {
            tree.v1.clear();
        }
        tree
    }

    /// The mounts of this process.
    pub fn of_this_machine() -> Result<Self, CgroupError> {
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(failed("read", path))?;
        let tree = Self::from_mountinfo(&text);
        if tree.v1.is_empty() && tree.v2.is_none() {
            return Err(CgroupError::Refused("no cgroup hierarchy is mounted".to_owned()));
        }
        Ok(tree)
    }

    /// Whether the controllers are in v1 hierarchies.
    pub fn is_v1(&self) -> bool {
        !self.v1.is_empty()
    }

    /// Makes a cgroup with its ancestors, in every hierarchy.
    pub fn create(&self, folder: &str) -> Result<(), CgroupError> {
        for hierarchy in &self.v1 {
            let path = hierarchy.mount.join(folder);
            if !path.is_dir() {
                fs::create_dir_all(&path).map_err(failed("create", &path))?;
            }
            if hierarchy.controllers.iter().any(|it| it == "cpuset") {
                inherit_cpuset(&hierarchy.mount, folder)?;
            }
        }
        if let (true, Some(mount)) = (self.v1.is_empty(), &self.v2) {
            create_v2(mount, folder)?;
        }
        Ok(())
    }

    /// Writes limits; the cgroup must be there.
    pub fn write(&self, folder: &str, limits: &Limits) -> Result<(), CgroupError> {
        if !self.is_v1() {
            return match &self.v2 {
                Some(mount) => write_v2(&mount.join(folder), limits),
                None => Ok(()),
            };
        }
        let files = [
            ("cpu", "cpu.shares", limits.shares),
            ("cpu", "cpu.cfs_period_us", limits.period),
            ("cpu", "cpu.cfs_quota_us", limits.quota),
            ("memory", "memory.limit_in_bytes", limits.memory),
        ];
        for (controller, file, value) in files {
            if let (Some(value), Some(dir)) = (value, self.v1_dir(controller, folder)) {
                put(&dir.join(file), &value.to_string())?;
            }
        }
        if let (Some(value), Some(dir)) = (limits.pids, self.v1_dir("pids", folder)) {
            put(&dir.join("pids.max"), &or_max(value))?;
        }
        Ok(())
    }

    /// Removes a cgroup with everything below it, in every hierarchy, killing what still runs there.
    pub fn remove(&self, folder: &str) -> Result<(), CgroupError> {
        let mounts = self.v1.iter().map(|it| &it.mount).chain(&self.v2);
        let mut first = Ok(());
        for path in mounts.map(|it| it.join(folder)) {
            let done = remove_tree(&path);
            first = first.and(done);
        }
        first
    }

    /// The names of the folders right below a cgroup.
    pub fn children(&self, folder: &str) -> Vec<String> {
        let Some(mount) = self.v1.first().map(|it| &it.mount).or(self.v2.as_ref()) else { return Vec::new() };
        let Ok(entries) = fs::read_dir(mount.join(folder)) else { return Vec::new() };
        let folders = entries.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|it| it.file_name().into_string().ok()).collect()
    }

    /// Whether the cgroup exists.
    pub fn exists(&self, folder: &str) -> bool {
        let mount = self.v1.first().map(|it| &it.mount).or(self.v2.as_ref());
        mount.is_some_and(|it| it.join(folder).is_dir())
    }

    /// Usage.
    pub fn stats(&self, folder: &str) -> CgroupStats {
        if self.is_v1() {
            self.stats_v1(folder)
        } else {
            self.v2.as_ref().map(|it| stats_v2(&it.join(folder))).unwrap_or_default()
        }
    }

    fn v1_dir(&self, controller: &str, folder: &str) -> Option<PathBuf> {
        let found = self.v1.iter().find(|it| it.controllers.iter().any(|c| c == controller))?;
        Some(found.mount.join(folder))
    }

    fn stats_v1(&self, folder: &str) -> CgroupStats {
        let number = |controller: &str, file: &str| read_number(&self.v1_dir(controller, folder)?.join(file));
        let stat = self
            .v1_dir("memory", folder)
            .and_then(|it| fs::read_to_string(it.join("memory.stat")).ok())
            .unwrap_or_default();
        let usage = number("memory", "memory.usage_in_bytes");
        CgroupStats {
            cpu_usage_nanos: number("cpuacct", "cpuacct.usage"),
            memory_usage: usage,
            memory_working_set: usage
                .map(|it| it.saturating_sub(field(&stat, "total_inactive_file").unwrap_or(0))),
            memory_rss: field(&stat, "total_rss"),
            // The kernel writes "no limit" as the greatest page-aligned number.
            memory_limit: number("memory", "memory.limit_in_bytes").filter(|it| *it < (1 << 62)),
            page_faults: field(&stat, "total_pgfault"),
            major_page_faults: field(&stat, "total_pgmajfault"),
            pids: number("pids", "pids.current"),
            swap_usage: field(&stat, "total_swap"),
        }
    }
}

fn stats_v2(dir: &Path) -> CgroupStats {
    let number = |file: &str| read_number(&dir.join(file));
    let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (cpu, memory) = (text("cpu.stat"), text("memory.stat"));
    let usage = number("memory.current");
    CgroupStats {
        cpu_usage_nanos: field(&cpu, "usage_usec").map(|it| it * 1000),
        memory_usage: usage,
        memory_working_set: usage.map(|it| it.saturating_sub(field(&memory, "inactive_file").unwrap_or(0))),
        memory_rss: field(&memory, "anon"),
        memory_limit: number("memory.max"),
        page_faults: field(&memory, "pgfault"),
        major_page_faults: field(&memory, "pgmajfault"),
        pids: number("pids.current"),
        swap_usage: number("memory.swap.current"),
    }
}

/// A controller must be enabled in every ancestor before a cgroup has its files.
fn create_v2(mount: &Path, folder: &str) -> Result<(), CgroupError> {
    let available = fs::read_to_string(mount.join("cgroup.controllers"))
        .map_err(failed("read", mount.join("cgroup.controllers")))?;
    let wanted: Vec<&str> = available
        .split_whitespace()
        .filter(|it| matches!(*it, "cpu" | "cpuset" | "io" | "memory" | "hugetlb" | "pids"))
        .collect();
    let mut path = mount.to_owned();
    for part in folder.split('/') {
        let control = path.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&control).unwrap_or_default();
        for controller in &wanted {
            if !enabled.split_whitespace().any(|it| it == *controller) {
                put(&control, &format!("+{controller}"))?;
            }
        }
        path.push(part);
        if !path.is_dir() {
            fs::create_dir(&path).map_err(failed("create", &path))?;
        }
    }
    Ok(())
}

fn write_v2(dir: &Path, limits: &Limits) -> Result<(), CgroupError> {
    if let Some(shares) = limits.shares {
        put(&dir.join("cpu.weight"), &weight(shares).to_string())?;
    }
    if let Some(quota) = limits.quota {
        let period = limits.period.unwrap_or(100_000);
        let text = if quota > 0 { format!("{quota} {period}") } else { format!("max {period}") };
        put(&dir.join("cpu.max"), &text)?;
    }
    if let Some(memory) = limits.memory {
        put(&dir.join("memory.max"), &or_max(memory))?;
    }
    if let Some(pids) = limits.pids {
        put(&dir.join("pids.max"), &or_max(pids))?;
    }
    Ok(())
}

/// A new v1 cpuset is empty, and nothing can be moved into an empty one.
fn inherit_cpuset(mount: &Path, folder: &str) -> Result<(), CgroupError> {
    let mut path = mount.to_owned();
    for part in folder.split('/') {
        let parent = path.clone();
        path.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = fs::read_to_string(path.join(file)).unwrap_or_default();
            if own.trim().is_empty() {
                let value =
                    fs::read_to_string(parent.join(file)).map_err(failed("read", parent.join(file)))?;
                put(&path.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    if !path.is_dir() {
        return Ok(());
    }
    kill_all(path);
    let mut tries = 0;
    loop {
        match remove_folders(path) {
            Ok(()) => return Ok(()),
            Err(err) if err.raw_os_error() == Some(libc::EBUSY) && tries < REMOVE_TRIES => {
                tries += 1;
                kill_all(path);
                // A killed process leaves its cgroup only when it is reaped; there is no event for that in v1.
                std::thread::sleep(REMOVE_PAUSE);
            }
            Err(err) => return Err(failed("remove", path)(err)),
        }
    }
}

fn remove_folders(path: &Path) -> io::Result<()> {
    for child in folders(path) {
        remove_folders(&child)?;
    }
    match fs::remove_dir(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

fn kill_all(path: &Path) {
    for child in folders(path) {
        kill_all(&child);
    }
    let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) else { return };
    for pid in text.lines().filter_map(|it| it.trim().parse::<i32>().ok()).filter(|it| *it > 1) {
        tracing::warn!(pid, cgroup = %path.display(), "killing a process that outlived its pod");
        // Gone already is what we want.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let frozen = path.join("freezer.state");
    if frozen.exists() {
        // A frozen process dies only when it thaws.
        let _ = fs::write(frozen, "THAWED");
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|it| it.path())
        .collect()
}

/// Writes a control file, but only when that changes it: most writes of a restart do not.
fn put(path: &Path, value: &str) -> Result<(), CgroupError> {
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(failed("write", path))
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn failed(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.as_ref().display().to_string();
    move |source| CgroupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hierarchies_are_found_in_mountinfo() {
        let tree = Tree::from_mountinfo(HYBRID);
        assert!(tree.is_v1());
        assert_eq!(tree.v1_dir("cpuacct", "kubepods"), Some("/sys/fs/cgroup/cpu,cpuacct/kubepods".into()));
        assert_eq!(tree.v1.len(), 3);
        assert_eq!(tree.v2, Some("/sys/fs/cgroup/unified".into()));
        let unified = Tree::from_mountinfo("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert!(!unified.is_v1());
    }

    /// A v2 tree as a new one looks like.
    fn recorded() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma misc\n")
            .unwrap();
        fs::write(dir.path().join("cgroup.subtree_control"), "cpuset cpu io memory hugetlb pids\n").unwrap();
        let tree = Tree { v1: Vec::new(), v2: Some(dir.path().to_owned()) };
        (dir, tree)
    }

    #[test]
    fn limits_are_written_in_the_words_of_v2() {
        let (dir, tree) = recorded();
        tree.create("kubepods/pod1").unwrap();
        let control = fs::read_to_string(dir.path().join("kubepods/cgroup.subtree_control")).unwrap();
        assert_eq!(control, "+pids", "each controller is enabled by a write of its own");
        let check = |limits: Limits, file: &str, want: &str| {
            tree.write("kubepods/pod1", &limits).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("kubepods/pod1").join(file)).unwrap(), want);
        };
        check(Limits { shares: Some(1024), ..Limits::default() }, "cpu.weight", "100");
        check(
            Limits { quota: Some(50_000), period: Some(100_000), ..Limits::default() },
            "cpu.max",
            "50000 100000",
        );
        check(
            Limits { quota: Some(-1), period: Some(100_000), ..Limits::default() },
            "cpu.max",
            "max 100000",
        );
        check(Limits { memory: Some(1 << 20), ..Limits::default() }, "memory.max", "1048576");
        check(Limits { pids: Some(-1), ..Limits::default() }, "pids.max", "max");
    }

    #[test]
    fn usage_is_read_in_the_words_of_v2() {
        let (dir, tree) = recorded();
        tree.create("a").unwrap();
        let put = |file: &str, text: &str| fs::write(dir.path().join("a").join(file), text).unwrap();
        put("cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        put("memory.current", "1000\n");
        put("memory.stat", "anon 600\ninactive_file 300\npgfault 7\npgmajfault 1\n");
        put("memory.max", "max\n");
        put("pids.current", "3\n");
        let want = CgroupStats {
            cpu_usage_nanos: Some(1_500_000),
            memory_usage: Some(1000),
            memory_working_set: Some(700),
            memory_rss: Some(600),
            memory_limit: None,
            page_faults: Some(7),
            major_page_faults: Some(1),
            pids: Some(3),
            swap_usage: None,
        };
        assert_eq!(tree.stats("a"), want);
    }
}
