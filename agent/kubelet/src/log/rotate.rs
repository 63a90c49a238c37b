//! One rotation: the file out of the way, the runtime told to open a new one, the older ones tidied.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use coracle_cri::{CriError, RuntimeHandle};

use super::files;

/// Why a log is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum RotationError {
    /// The file could not be renamed.
    #[error("rename log {path}", path = .path.display())]
    Rename {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The runtime did not open a new file.
    #[error("reopen the log of container {id}")]
    Reopen {
        id: String,
        #[source]
        source: CriError,
    },
    /// The log was rotated; its older files are not all as they should be.
    #[error("tidy up rotated files of {path}", path = .path.display())]
    Tidy {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Rotates the log of a running container, so that there are `files` files of it at most, the one that is written to
/// among them. Twice within a second is once.
pub(super) async fn rotate(
    runtime: &RuntimeHandle,
    id: &str,
    path: &Path,
    files: u32,
) -> Result<(), RotationError> {
    let rotated = with(path, &format!(".{}", jiff::Zoned::now().strftime(files::STAMP)));
    if rotated.exists() || with(&rotated, ".gz").exists() {
        return Ok(());
    }
    std::fs::rename(path, &rotated)
        .map_err(|source| RotationError::Rename { path: path.to_owned(), source })?;
    if let Err(source) = runtime.reopen_container_log(id).await {
        // A new file that is there all the same is written to already. If there is none, what was written is found
        // under its old name again, also when the container has just ended.
        if !path.exists()
            && let Err(err) = std::fs::rename(&rotated, path)
        {
            tracing::warn!(path = %path.display(), error = %err, "a log kept the name of a rotated one");
        }
        return Err(RotationError::Reopen { id: id.to_owned(), source });
    }
    tidy(path, files).await
}

async fn tidy(path: &Path, files: u32) -> Result<(), RotationError> {
    let keep = usize::try_from(files.saturating_sub(1)).unwrap_or(usize::MAX);
    let owned = path.to_owned();
    let tidying = tokio::task::spawn_blocking(move || files::tidy_up(&owned, keep));
    let outcome = tidying.await.unwrap_or_else(|_| Err(std::io::Error::other("the work was cut off")));
    outcome.map_err(|source| RotationError::Tidy { path: path.to_owned(), source })
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
