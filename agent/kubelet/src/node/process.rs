//! This process's own standing: what the kernel kills first, how many files may be open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::ProcessSettings;

/// Sets both as far as the machine allows; what it does not allow is said once and lived with.
pub fn settle(settings: &ProcessSettings) {
    let score = settings.oom_score_adj;
    if let Err(err) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::info!(oom_score_adj = score, error = %err, "the kernel keeps our OOM score as it is");
    }
    let wanted = settings.max_open_files;
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return;
    }
    let most = wanted.min(hard);
    match setrlimit(Resource::RLIMIT_NOFILE, most, hard) {
        Ok(()) => tracing::info!(wanted, limit = most, "fewer open files than configured"),
        Err(err) => tracing::info!(wanted, error = %err, "the limit of open files stays as it is"),
    }
}
