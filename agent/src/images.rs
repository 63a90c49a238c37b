//! Image archives without a registry: what lies in the images folder is imported into containerd at start.
//!
//! CRI has no call to import, so containerd's own `ctr` does it. An archive is imported when it is new, when it has
//! changed, or when the runtime has lost an image that it holds.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use coracle_cri::Images;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Longest time that one archive may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// Namespace in which containerd keeps the images of its CRI service.
const NAMESPACE: &str = "k8s.io";

/// Why the folder or an archive could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder does not list.
    #[error("list image archives in {folder}")]
    List {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is no image archive.
    #[error("read image archive {archive}: {reason}")]
    Unreadable {
        /// The file.
        archive: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `ctr` failed.
    #[error("import image archive {archive}: {reason}")]
    Refused {
        /// The file.
        archive: PathBuf,
        /// containerd's words.
        reason: String,
    },
}

/// What is remembered of an imported archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    size: u64,
    modified: u64,
    images: Vec<String>,
}

/// Imports every archive in `folder` that needs it. One bad archive does not keep the others out: it is reported in
/// the returned list, with the images that came in.
pub async fn import_folder(
    folder: &Path,
    endpoint: &str,
    runtime: &dyn Images,
) -> Result<(Vec<String>, Vec<ImportError>), ImportError> {
    let list = |source| ImportError::List { folder: folder.to_owned(), source };
    let record_path = folder.join(".imported.json");
    let mut record: BTreeMap<String, Seen> =
        std::fs::read(&record_path).ok().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
    let mut archives: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(list)?
        .filter_map(|entry| entry.ok().map(|it| it.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "tar"))
        .collect();
    archives.sort();
    let (mut imported, mut failed) = (Vec::new(), Vec::new());
    for archive in archives {
        match import_if_needed(&archive, &record, endpoint, runtime).await {
            Ok(None) => {}
            Ok(Some(seen)) => {
                imported.extend(seen.images.iter().cloned());
                record.insert(file_name(&archive), seen);
            }
            Err(error) => failed.push(error),
        }
    }
    if !imported.is_empty()
        && let Ok(text) = serde_json::to_vec(&record)
        && let Err(error) = std::fs::write(&record_path, text)
    {
        tracing::warn!(%error, "cannot remember which image archives are imported; they will be imported again");
    }
    Ok((imported, failed))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `None` when everything that the archive holds is already there.
async fn import_if_needed(
    archive: &Path,
    record: &BTreeMap<String, Seen>,
    endpoint: &str,
    runtime: &dyn Images,
) -> Result<Option<Seen>, ImportError> {
    let unreadable = |reason: String| ImportError::Unreadable { archive: archive.to_owned(), reason };
    let about = std::fs::metadata(archive).map_err(|error| unreadable(error.to_string()))?;
    let modified =
        about.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok()).map_or(0, |it| it.as_secs());
    let known =
        record.get(&file_name(archive)).filter(|it| it.size == about.len() && it.modified == modified);
    if let Some(seen) = known
        && all_present(&seen.images, runtime).await
    {
        return Ok(None);
    }
    let path = archive.to_owned();
    let images = tokio::task::spawn_blocking(move || names_in(&path))
        .await
        .map_err(|error| unreadable(error.to_string()))?
        .map_err(unreadable)?;
    run_ctr(archive, endpoint).await?;
    Ok(Some(Seen { size: about.len(), modified, images }))
}

async fn all_present(images: &[String], runtime: &dyn Images) -> bool {
    for image in images {
        if !matches!(runtime.image_status(image).await, Ok(Some(_))) {
            return false;
        }
    }
    !images.is_empty()
}

async fn run_ctr(archive: &Path, endpoint: &str) -> Result<(), ImportError> {
    let refused = |reason: String| ImportError::Refused { archive: archive.to_owned(), reason };
    let address = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    let run = Command::new("ctr")
        .args(["--address", address, "--namespace", NAMESPACE, "images", "import"])
        .arg(archive)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, run)
        .await
        .map_err(|_| refused(format!("no end within {} s", DEADLINE.as_secs())))?
        .map_err(|error| refused(format!("run ctr (it comes with containerd): {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The image names in an archive: an OCI layout's index, or a Docker archive's manifest.
fn names_in(archive: &Path) -> Result<Vec<String>, String> {
    let file = std::fs::File::open(archive).map_err(|error| error.to_string())?;
    let mut tar = tar::Archive::new(file);
    let mut names = Vec::new();
    for entry in tar.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry.path().map_err(|error| error.to_string())?.display().to_string();
        if path != "index.json" && path != "manifest.json" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(|error| format!("{path}: {error}"))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        names.extend(if path == "index.json" { oci_names(&json) } else { docker_names(&json) });
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn oci_names(index: &serde_json::Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    manifests
        .iter()
        .filter_map(|it| it["annotations"]["io.containerd.image.name"].as_str().map(str::to_owned))
        .collect()
}

fn docker_names(manifest: &serde_json::Value) -> Vec<String> {
    let images = manifest.as_array().map(Vec::as_slice).unwrap_or_default();
    images
        .iter()
        .flat_map(|it| it["RepoTags"].as_array().map(Vec::as_slice).unwrap_or_default())
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, file: &str, content: &str) -> PathBuf {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, file, content.as_bytes()).unwrap();
        let path = folder.join("a.tar");
        std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
        path
    }

    #[test]
    fn names_are_found_in_both_kinds_of_archive() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"manifests":[{"annotations":{"io.containerd.image.name":"localhost/a:1"}},{}]}"#;
        let path = archive(folder.path(), "index.json", index);
        assert_eq!(names_in(&path).unwrap(), ["localhost/a:1"]);
        let path =
            archive(folder.path(), "manifest.json", r#"[{"RepoTags":["b:2","b:3"]},{"RepoTags":null}]"#);
        assert_eq!(names_in(&path).unwrap(), ["b:2", "b:3"]);
    }

    #[test]
    fn a_file_that_is_no_archive_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), "index.json", "{");
        assert!(names_in(&path).unwrap_err().starts_with("index.json: "), "{:?}", names_in(&path));
    }
}
