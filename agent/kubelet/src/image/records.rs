//! Who pulled what with which credentials: upstream's records below `<root>/image_manager`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::accounts::AccountRef;
use super::keyring::{SecretRef, hex};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// An image that was pulled: by repository, who may use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pulled {
    api_version: String,
    kind: String,
    last_updated_time: String,
    image_ref: String,
    #[serde(default)]
    pub credential_mapping: BTreeMap<String, Access>,
}

/// Who may use an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Access {
    /// All pods of the node: pulled without credentials, or with the node's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
    /// Pods that know one of these Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<SecretRef>,
    /// Pods that run as one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<AccountRef>,
}

/// The folder of records. Every method blocks for a small file.
#[derive(Debug, Clone)]
pub struct Records {
    pulling: PathBuf,
    pulled: PathBuf,
}

impl Records {
    /// Below the kubelet's root folder.
    pub fn new(root: &Path) -> Self {
        let folder = root.join("image_manager");
        Self { pulling: folder.join("pulling"), pulled: folder.join("pulled") }
    }

    /// Notes that an image is being pulled: should we die meanwhile, it is known not to be there from before.
    pub(super) fn begin(&self, image: &str) -> io::Result<()> {
        let intent =
            serde_json::json!({"apiVersion": API_VERSION, "kind": "ImagePullIntent", "image": image});
        write(&self.pulling, &file_name(image), &intent)
    }

    /// The pull is over.
    pub(super) fn end(&self, image: &str) -> io::Result<()> {
        remove(&self.pulling.join(file_name(image)))
    }

    /// Whether a pull of this image was begun and did not end.
    pub(super) fn is_begun(&self, image: &str) -> bool {
        self.pulling.join(file_name(image)).exists()
    }

    /// The images whose pull was begun and did not end.
    pub(super) fn begun(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.pulling) else { return Vec::new() };
        let image = |it: fs::DirEntry| {
            let intent: Value = serde_json::from_slice(&fs::read(it.path()).ok()?).ok()?;
            Some(intent.get("image")?.as_str()?.to_owned())
        };
        entries.flatten().filter_map(image).collect()
    }

    /// An image was pulled, and nobody knows by whom.
    pub(super) fn put_unknown(&self, image_ref: &str) -> io::Result<()> {
        self.update(image_ref, |_| {})
    }

    /// What is known of an image by the runtime's id.
    pub(super) fn read(&self, image_ref: &str) -> io::Result<Option<Pulled>> {
        match fs::read(self.pulled.join(file_name(image_ref))) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Who may use an image from now on: what was known before stays unless it is put in its place.
    pub(super) fn put(&self, image_ref: &str, repository: &str, access: Access) -> io::Result<()> {
        self.update(image_ref, |record| {
            record.credential_mapping.insert(repository.to_owned(), access);
        })
    }

    fn update(&self, image_ref: &str, change: impl FnOnce(&mut Pulled)) -> io::Result<()> {
        let mut record = self.read(image_ref).ok().flatten().unwrap_or_default();
        change(&mut record);
        record.api_version = API_VERSION.to_owned();
        record.kind = "ImagePulledRecord".to_owned();
        record.image_ref = image_ref.to_owned();
        record.last_updated_time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        write(&self.pulled, &file_name(image_ref), &record)
    }

    /// The image is no more.
    pub fn forget(&self, image_ref: &str) -> io::Result<()> {
        remove(&self.pulled.join(file_name(image_ref)))
    }
}

fn file_name(of: &str) -> String {
    format!("sha256-{}", hex(digest(&SHA256, of.as_bytes()).as_ref()))
}

/// In one swap: a crash leaves the old file or the new one.
fn write(folder: &Path, name: &str, content: &impl Serialize) -> io::Result<()> {
    use std::io::Write;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = folder.join(format!(".{name}.{}", coracle_apimachinery::rand_suffix(6)));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let written = file.write_all(&serde_json::to_vec(content)?);
    let renamed = written.and_then(|()| fs::rename(&unfinished, folder.join(name)));
    if renamed.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    renamed
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}
