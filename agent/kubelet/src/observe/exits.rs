//! A pidfd on each process: the kernel tells when it ends, nobody polls.
#![allow(unsafe_code)] // pidfd_open has no safe wrapper in what we depend on

use std::os::fd::{FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Becomes ready when a process ends.
pub struct ExitWatch {
    fd: AsyncFd<OwnedFd>,
}

impl ExitWatch {
    /// Watches a process; an error of ESRCH says that it has already ended.
    pub fn open(pid: u32) -> std::io::Result<Self> {
        let pid =
            libc::c_long::from(libc::pid_t::try_from(pid).map_err(|_| std::io::ErrorKind::InvalidInput)?);
        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_long) };
        let fd = libc::c_int::try_from(fd).map_err(|_| std::io::ErrorKind::InvalidData)?;
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is owned by what we hand over, which keeps it open as long as the registration lives.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { fd: fd.map_err(std::io::Error::from)? })
    }

    /// Returns when the process has ended. Dropping it is safe at any time.
    pub async fn ended(&self) {
        // The descriptor cannot fail to become readable but by the reactor's own end.
        let _ = self.fd.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_ends() {
        let mut child = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watch = ExitWatch::open(child.id().unwrap()).unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), watch.ended());
        assert!(waiting.await.is_err(), "it still runs");
        child.kill().await.unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), watch.ended())
            .await
            .expect("told of the end");
    }
}
