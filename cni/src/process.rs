//! Run a program with its whole input at hand, collect its output, and never wait past a deadline.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program left when it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("start {program}")]
    Start {
        /// The program as it was named.
        program: String,
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// Its pipes failed while it ran.
    #[error("talk to {program}")]
    Talk {
        /// The program as it was named.
        program: String,
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// It was still running at the deadline, and was killed.
    #[error("{program} did not end within {} s and was killed", limit.as_secs_f32())]
    Deadline {
        /// The program as it was named.
        program: String,
        /// The time it was given.
        limit: Duration,
    },
}

/// Runs `command` with `input` on its standard input; kills it when `limit` has passed.
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Output, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |source| ProcessError::Start { program: program.clone(), source };
    let stdin = memory_file(input).map_err(start)?;
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ProcessError::Start { program: program.clone(), source })?;
    let deadline = Instant::now() + limit;
    let ended = collect(&mut child, deadline);
    if !matches!(ended, Ok(Some(_))) {
        let _ = child.kill(); // it may have ended in the meantime
        let _ = child.wait();
    }
    match ended {
        Ok(Some(output)) => Ok(output),
        Ok(None) => Err(ProcessError::Deadline { program, limit }),
        Err(source) => Err(ProcessError::Talk { program, source }),
    }
}

/// A file in memory instead of a pipe: a program that does not read cannot block us.
fn memory_file(input: &[u8]) -> io::Result<Stdio> {
    let mut file = std::fs::File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

fn collect(child: &mut Child, deadline: Instant) -> io::Result<Option<Output>> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the child has no pipes"));
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    let mut chunk = vec![0; 16 * 1024];
    while out_open || err_open {
        let Some(timeout) = left(deadline) else { return Ok(None) };
        let mut fds = Vec::with_capacity(2);
        if out_open {
            fds.push(PollFd::new(out.as_fd(), PollFlags::POLLIN));
        }
        if err_open {
            fds.push(PollFd::new(err.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds
            .iter()
            .map(|fd| fd.revents().is_some_and(|it| !it.is_empty()))
            .collect::<Vec<_>>()
            .into_iter();
        let out_ready = out_open && ready.next().unwrap_or(false);
        let err_ready = err_open && ready.next().unwrap_or(false);
        if out_ready {
            out_open = append(&mut out, &mut stdout, &mut chunk)?;
        }
        if err_ready {
            err_open = append(&mut err, &mut stderr, &mut chunk)?;
        }
    }
    // Its output has ended, so it is ending too; a program that lingers still meets the deadline.
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Output { status, stdout, stderr }));
        }
        if left(deadline).is_none() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// False at the end of the stream.
fn append(from: &mut impl Read, to: &mut Vec<u8>, chunk: &mut [u8]) -> io::Result<bool> {
    match from.read(chunk) {
        Ok(0) => Ok(false),
        Ok(n) => {
            to.extend_from_slice(&chunk[..n]);
            Ok(true)
        }
        Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(err) => Err(err),
    }
}

fn left(deadline: Instant) -> Option<PollTimeout> {
    let left = deadline.checked_duration_since(Instant::now())?;
    Some(PollTimeout::try_from(left.as_millis().clamp(1, 60_000)).unwrap_or(PollTimeout::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_goes_in_and_both_outputs_come_out() {
        let big = vec![b'x'; 300_000];
        let output = run(shell("cat; echo oops >&2; exit 3"), &big, Duration::from_secs(10)).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, big);
        assert_eq!(output.stderr, b"oops\n");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let started = Instant::now();
        let err = run(shell("exec sleep 60"), b"", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(err, ProcessError::Deadline { .. }), "{err}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let err = run(Command::new("/no/such/program"), b"", Duration::from_secs(1)).unwrap_err();
        assert_eq!(err.to_string(), "start /no/such/program");
    }
}
