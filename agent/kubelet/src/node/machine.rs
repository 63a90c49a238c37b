//! What the kernel says about the machine.

use std::io;

/// The machine's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of swap.
    pub swap: i64,
    /// The greatest number of processes.
    pub pids: i64,
}

impl Machine {
    /// From `/proc` and sysfs.
    pub fn read() -> io::Result<Self> {
        let cpus =
            online_cpus(&std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default())
                .or_else(|| {
                    std::thread::available_parallelism().ok().and_then(|it| i64::try_from(it.get()).ok())
                })
                .unwrap_or(1);
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
        let pid_max = number("/proc/sys/kernel/pid_max").unwrap_or(32_768);
        let threads = number("/proc/sys/kernel/threads-max").unwrap_or(pid_max);
        Ok(Self {
            cpu_milli: cpus * 1000,
            memory: meminfo_bytes(&meminfo, "MemTotal").unwrap_or_default(),
            swap: meminfo_bytes(&meminfo, "SwapTotal").unwrap_or_default(),
            pids: pid_max.min(threads),
        })
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub(crate) fn meminfo_bytes(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok().map(|it| it * 1024)
}

/// How many cpus a list such as `0-3,8` has.
fn online_cpus(text: &str) -> Option<i64> {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<i64>().ok()? - first.parse::<i64>().ok()? + 1)
    };
    text.trim().split(',').map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines_of_the_kernel_are_read() {
        for (text, want) in [("0\n", Some(1)), ("0-3\n", Some(4)), ("0-1,4-5,8\n", Some(5)), ("", None)] {
            assert_eq!(online_cpus(text), want, "{text:?}");
        }
        assert_eq!(meminfo_bytes("MemTotal:   16 kB\nSwapTotal: 0 kB\n", "MemTotal"), Some(16 << 10));
        assert!(Machine::read().unwrap().memory > 0);
    }
}
