//! A machine becomes a node: it finds out whom to trust, asks for its certificate, and keeps it.
//!
//! Start at [`join()`]. What is kept in the node's folder is enough to start again without the token, and without the
//! server being there.

mod discover; // is it the pinned cluster, may we come in
mod error; // why a machine cannot join
pub mod facts; // what nodes must know of the cluster
mod probe; // questions to a server that is not trusted yet
pub mod token; // what a person carries here

use std::path::{Path, PathBuf};

use coracle_kubelet::certificate::{CLIENT, CertificateStore, Wish};
use jiff::Timestamp;
use kube::config::Kubeconfig;
use serde_json::json;

pub use error::JoinError;
pub use facts::ClusterFacts;
use token::{BootstrapToken, CaHash, JoinToken};

/// What a person says of the cluster.
#[derive(Clone)]
pub struct Invitation {
    /// `https://HOST:PORT`.
    pub server: String,
    /// The token, with the CA's hash or without.
    pub token: Option<JoinToken>,
    /// The CA's hash by itself.
    pub ca_hash: Option<CaHash>,
}

/// The files of a node's membership.
#[derive(Debug, Clone)]
pub struct Membership {
    folder: PathBuf,
}

impl Membership {
    /// In this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The cluster's CA.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// What the kubelet is pointed at.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubelet.kubeconfig")
    }

    /// What it is pointed at until it has a certificate.
    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.folder.join("bootstrap.kubeconfig")
    }

    /// The node's certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// What was learned of the cluster.
    pub fn facts(&self) -> PathBuf {
        self.folder.join("cluster.json")
    }

    /// The node has what it needs: what let it in is not needed any more.
    pub fn forget_invitation(&self) -> Result<(), JoinError> {
        remove(&self.bootstrap_kubeconfig())
    }
}

impl Invitation {
    /// The address made sure of, and one hash at most.
    pub fn checked(server: &str, token: Option<&str>, ca_hash: Option<&str>) -> Result<Self, JoinError> {
        let bad = |reason: &str| JoinError::Server { server: server.to_owned(), reason: reason.to_owned() };
        let uri: http::Uri = server.parse().map_err(|_| bad("is no URL such as https://10.0.0.1:6443"))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
            return Err(bad("must be https:// and a host, such as https://10.0.0.1:6443"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad("must end after host and port"));
        }
        let token: Option<JoinToken> = token.map(|it| it.parse().map_err(JoinError::Token)).transpose()?;
        let ca_hash: Option<CaHash> = ca_hash.map(|it| it.parse().map_err(JoinError::CaHash)).transpose()?;
        match (token.as_ref().and_then(|it| it.ca), ca_hash) {
            (Some(a), Some(b)) if a != b => {
                Err(JoinError::Pin("--ca-hash is another than the one in --token"))
            }
            _ => Ok(Self { server: server.trim_end_matches('/').to_owned(), token, ca_hash }),
        }
    }

    fn pin(&self) -> Option<CaHash> {
        self.ca_hash.or_else(|| self.token.as_ref()?.ca)
    }
}

/// Makes sure that the node has what its kubelet needs to ask for its certificate, or has one already: whom to trust,
/// and a kubeconfig. Blocks on files.
pub async fn join(invitation: &Invitation, member: &Membership, node: &str) -> Result<(), JoinError> {
    let server = &invitation.server;
    if has_certificate(member, node) {
        let found = CaHash::of_pem(&read(&member.ca())?).map_err(JoinError::Token)?;
        return match invitation.pin() {
            Some(wanted) if wanted != found => {
                Err(JoinError::OtherCluster { found, wanted, folder: member.folder.clone() })
            }
            _ => point_at(member, server),
        };
    }
    let Some(JoinToken { token, .. }) = &invitation.token else {
        return Err(JoinError::TokenNeeded(if member.kubeconfig().exists() {
            "this node's certificate does not count any more"
        } else {
            "this machine has not joined yet"
        }));
    };
    let Some(pin) = invitation.pin() else {
        return Err(JoinError::Pin(
            "the token does not carry the hash of the cluster's CA: give it by --ca-hash sha256:...",
        ));
    };
    let ca = discover::ca(server, pin, Timestamp::now()).await?;
    discover::admission(server, &ca, token, node).await?;
    make_folder(&member.folder)?;
    write(&member.ca(), ca.as_bytes())?;
    remove(&member.kubeconfig())?;
    write_bootstrap(member, server, Some(token))
}

fn has_certificate(member: &Membership, node: &str) -> bool {
    let store = CertificateStore::new(member.pki(), CLIENT);
    let suits = |it: coracle_kubelet::certificate::Pair| {
        it.is_valid(Timestamp::now()) && it.suits(&Wish::client(node))
    };
    member.ca().exists() && store.current().ok().flatten().is_some_and(suits)
}

/// The node has its certificate: where the server is may have changed.
fn point_at(member: &Membership, server: &str) -> Result<(), JoinError> {
    let known = Kubeconfig::read_from(member.kubeconfig()).ok();
    let known = known.as_ref().and_then(|it| it.clusters.first()?.cluster.as_ref()?.server.as_deref());
    if known == Some(server) {
        return Ok(());
    }
    remove(&member.kubeconfig())?;
    write_bootstrap(member, server, None)
}

fn write_bootstrap(
    member: &Membership,
    server: &str,
    token: Option<&BootstrapToken>,
) -> Result<(), JoinError> {
    let user = token.map_or_else(|| json!({}), |it| json!({"token": it.bearer()}));
    // JSON is YAML.
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "join",
        "clusters": [{"name": "cluster", "cluster": {
            "server": server, "certificate-authority": member.ca(),
        }}],
        "users": [{"name": "joiner", "user": user}],
        "contexts": [{"name": "join", "context": {"cluster": "cluster", "user": "joiner"}}],
    });
    write(&member.bootstrap_kubeconfig(), text.to_string().as_bytes())
}

fn make_folder(path: &Path) -> Result<(), JoinError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| JoinError::File { action: "make folder", path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, JoinError> {
    std::fs::read(path).map_err(|source| JoinError::File { action: "read", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), JoinError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(JoinError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Whole or not at all, and for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), JoinError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| JoinError::File { action: "write", path: path.to_owned(), source };
    let new = path.with_extension("new");
    remove(&new)?;
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let written = open.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&new, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitations_are_checked() {
        let hash = |digit: &str| digit.repeat(64);
        let plain = "abcdef.0123456789abcdef";
        let full = format!("K1{}::{plain}", hash("a"));
        let same = format!("sha256:{}", hash("a"));
        let good = Invitation::checked("https://h:6443/", Some(&full), Some(&same)).unwrap();
        assert_eq!((good.server.as_str(), good.pin()), ("https://h:6443", same.parse().ok()));
        assert!(Invitation::checked("https://h", Some(plain), None).unwrap().pin().is_none());
        for (server, token, ca, expected) in [
            ("http://h:6443", plain, None, "must be https"),
            ("h:6443", plain, None, "must be https"),
            ("https://h:6443/x", plain, None, "must end after host and port"),
            ("https://h", "x", None, "--token: a token is 6 characters"),
            ("https://h", plain, Some("sha256:x".to_owned()), "--ca-hash: a CA's hash is"),
            ("https://h", full.as_str(), Some(format!("sha256:{}", hash("b"))), "is another than"),
        ] {
            let text = Invitation::checked(server, Some(token), ca.as_deref()).err().unwrap().to_string();
            assert!(text.contains(expected), "{server} {token}: {text}");
        }
    }

    #[tokio::test]
    async fn nothing_is_asked_for_without_token_and_pin() {
        let folder = tempfile::tempdir().unwrap();
        let member = Membership::new(folder.path().join("m"));
        let ask = async |token| {
            let invitation = Invitation::checked("https://127.0.0.1:1", token, None).unwrap();
            join(&invitation, &member, "n1").await.err().unwrap().to_string()
        };
        assert!(ask(None).await.contains("has not joined yet: give --token"));
        assert!(ask(Some("abcdef.0123456789abcdef")).await.contains("give it by --ca-hash"));
        assert!(!folder.path().join("m").exists());
    }
}
