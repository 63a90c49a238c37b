//! The real kubectl, pointed at one cluster.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::host::Host;

/// kubectl with its kubeconfig, run inside the cluster's host.
#[derive(Clone)]
pub struct Kubectl {
    host: Arc<Host>,
    kubeconfig: PathBuf,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    pub(crate) fn new(host: Arc<Host>, kubeconfig: PathBuf) -> Self {
        Self { host, kubeconfig }
    }

    /// The command for these arguments, not yet run: `"get pods -o wide"` is split at spaces; for arguments that hold
    /// spaces use [`Kubectl::args`].
    pub fn command(&self, line: &str) -> Command {
        self.args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The command for these arguments, not yet run.
    pub fn args(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("CORACLE_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        // A cache of its own: discovery of one cluster must not serve another.
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", cache).args(arguments);
        self.host.enter(&command)
    }

    /// Runs it, with `input` on its standard input.
    pub fn run_with(&self, line: &str, input: &str) -> Output {
        run(self.command(line), input)
    }

    /// Runs it; panics when it fails; gives its standard output.
    pub fn ok(&self, line: &str) -> String {
        let output = self.run_with(line, "");
        assert!(output.success, "kubectl {line}:\n{}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Runs it; panics when it succeeds; gives its standard error.
    pub fn refused(&self, line: &str) -> String {
        let output = self.run_with(line, "");
        assert!(!output.success, "kubectl {line} should have failed:\n{}", output.stdout);
        output.stderr
    }

    /// Applies a manifest; panics when it fails.
    pub fn apply(&self, manifest: &str) -> String {
        let output = self.run_with("apply -f -", manifest);
        assert!(output.success, "kubectl apply:\n{}{}\n{manifest}", output.stdout, output.stderr);
        output.stdout
    }

    /// Applies a manifest; panics when that succeeds; gives the refusal.
    pub fn apply_refused(&self, manifest: &str) -> String {
        let output = self.run_with("apply -f -", manifest);
        assert!(!output.success, "kubectl apply should have failed:\n{}\n{manifest}", output.stdout);
        output.stderr
    }

    /// A field by jsonpath, e.g. `("pod/a", "{.status.phase}")`.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.ok(&format!("get {object} -o jsonpath={path}"))
    }
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run kubectl");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // On a thread: a command that fills its output before it reads must not wait for us.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("wait for kubectl");
    let _ = writer.join();
    Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
