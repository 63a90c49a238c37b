//! The first client certificate of a node that has nothing but a bootstrap kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{AuthInfo, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use rcgen::KeyPair;

use super::store::write_secret;
use super::wish::{malformed, new_key};
use super::{CLIENT, CertificateError, CertificateStore, Pair, Wish, request};

/// What is needed to join.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: PathBuf,
    /// `--kubeconfig`: written when it is not there.
    pub kubeconfig: PathBuf,
    /// `--cert-dir`.
    pub cert_dir: PathBuf,
    /// The node's name.
    pub node: String,
}

/// Between attempts.
const RETRY: Duration = Duration::from_secs(10);
/// The key of a request under way: a kubelet that starts again goes on waiting for the same request.
const KEY: &str = "kubelet-client.key.tmp";

/// Makes sure that the kubeconfig is there and that what it shows has not expired, asking for a certificate until there
/// is one. What went wrong with an attempt is logged; only what no further attempt can mend is returned.
pub async fn bootstrap(with: &Bootstrap) -> Result<(), CertificateError> {
    if is_usable(&with.kubeconfig, Timestamp::now())? {
        return Ok(());
    }
    let store = CertificateStore::new(&with.cert_dir, CLIENT);
    let wish = Wish::client(&with.node);
    let usable = |it: &Pair| it.is_valid(Timestamp::now()) && it.suits(&wish);
    if !store.current().ok().flatten().is_some_and(|it| usable(&it)) {
        let file = with.bootstrap_kubeconfig.clone();
        tracing::info!(kubeconfig = %file.display(), node = with.node, "this node asks for its certificate");
        let mut client =
            coracle_client::from_kubeconfig(&file, "kubelet").await.map_err(CertificateError::Client)?;
        while let Err(err) = attempt(&client, &wish, &store).await {
            tracing::warn!(error = %crate::report(&err), "no client certificate yet, will ask again");
            tokio::time::sleep(RETRY).await;
            // The token may have been replaced by one that has not expired.
            if let Ok(again) = coracle_client::from_kubeconfig(&file, "kubelet").await {
                client = again;
            }
        }
    }
    write_kubeconfig(with, &store.current_path())?;
    tracing::info!(kubeconfig = %with.kubeconfig.display(), "this node has its certificate");
    Ok(())
}

/// One request, by the key of the attempt before if there is one.
pub(super) async fn attempt(
    client: &kube::Client,
    wish: &Wish,
    store: &CertificateStore,
) -> Result<Pair, CertificateError> {
    let path = store.folder().join(KEY);
    let key = match std::fs::read_to_string(&path).ok().and_then(|pem| KeyPair::from_pem(&pem).ok()) {
        Some(key) => key,
        None => {
            let key = new_key()?;
            let made = std::fs::create_dir_all(store.folder());
            made.map_err(|source| CertificateError::File {
                action: "create",
                path: store.folder().to_owned(),
                source,
            })?;
            write_secret(&path, &key.serialize_pem())?;
            key
        }
    };
    let asked = request::ask(client, wish, &key, Some(name(wish, &key))).await;
    if matches!(asked, Err(CertificateError::Refused { .. } | CertificateError::Malformed { .. })) {
        // That request is over: the next one has a key, and so a name, of its own.
        drop(std::fs::remove_file(&path));
    }
    let pair = store.put(&asked?, &key.serialize_pem(), Timestamp::now())?;
    drop(std::fs::remove_file(&path));
    Ok(pair)
}

/// The same for the same key and wish.
fn name(wish: &Wish, key: &KeyPair) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(wish.signer.as_bytes());
    hash.update(wish.common_name.as_bytes());
    hash.update(key.public_key_pem().as_bytes());
    let digest = hash.finish();
    let text: String = digest.as_ref().iter().take(16).map(|it| format!("{it:02x}")).collect();
    format!("node-csr-{text}")
}

/// Whether a kubeconfig is there and has credentials that count.
fn is_usable(path: &Path, now: Timestamp) -> Result<bool, CertificateError> {
    if !path.exists() {
        return Ok(false);
    }
    let what = || path.display().to_string();
    let read = Kubeconfig::read_from(path).map_err(|err| malformed(what(), &err))?;
    let users = read.auth_infos.iter().filter_map(|it| it.auth_info.as_ref());
    for user in users {
        let Some(file) = &user.client_certificate else { continue };
        // What cannot be read or has expired is asked for anew.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let keyed =
            user.client_key.as_ref().and_then(|it| std::fs::read_to_string(it).ok()).unwrap_or_default();
        let pair = Pair::parse(&format!("{text}\n{keyed}"), file);
        if !pair.is_ok_and(|it| it.is_valid(now)) {
            tracing::warn!(kubeconfig = what(), file, "the kubeconfig's certificate does not count any more");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bootstrap file's cluster, with the certificate's file as credentials.
fn write_kubeconfig(with: &Bootstrap, certificate: &Path) -> Result<(), CertificateError> {
    let what = with.bootstrap_kubeconfig.display().to_string();
    let given = Kubeconfig::read_from(&with.bootstrap_kubeconfig).map_err(|err| malformed(&what, &err))?;
    let context = given.contexts.iter().find(|it| Some(&it.name) == given.current_context.as_ref());
    let context = context.and_then(|it| it.context.clone());
    let cluster = context.as_ref().and_then(|of| given.clusters.iter().find(|it| it.name == of.cluster));
    let Some(cluster) = cluster.and_then(|it| it.cluster.clone()) else {
        return Err(malformed(what, &"its current context names no cluster"));
    };
    let file = Some(certificate.to_string_lossy().into_owned());
    let user = AuthInfo { client_certificate: file.clone(), client_key: file, ..AuthInfo::default() };
    let (name, of_user) = ("default-cluster".to_owned(), "default-auth".to_owned());
    let namespace = context.and_then(|it| it.namespace);
    let context =
        Context { cluster: name.clone(), user: Some(of_user.clone()), namespace, ..Context::default() };
    let written = Kubeconfig {
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        clusters: vec![NamedCluster { name, cluster: Some(cluster), ..NamedCluster::default() }],
        contexts: vec![NamedContext {
            name: "default-context".to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        auth_infos: vec![NamedAuthInfo { name: of_user, auth_info: Some(user), ..NamedAuthInfo::default() }],
        current_context: Some("default-context".to_owned()),
        ..Kubeconfig::default()
    };
    let text = serde_json::to_value(&written).map_err(|err| malformed("kubeconfig", &err))?;
    let text = serde_saphyr::to_string(&text).map_err(|err| malformed("kubeconfig", &err))?;
    if let Some(folder) = with.kubeconfig.parent() {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|source| CertificateError::File { action: "create", path: folder.to_owned(), source })?;
    }
    write_secret(&with.kubeconfig, &text)
}

/// Puts a kubeconfig's own certificate into an empty store, as upstream does, so that tools find it where they look.
pub fn import(kubeconfig: &Path, store: &CertificateStore, wish: &Wish) -> Result<(), CertificateError> {
    if store.current()?.is_some() {
        return Ok(());
    }
    let what = || kubeconfig.display().to_string();
    let read = Kubeconfig::read_from(kubeconfig).map_err(|err| malformed(what(), &err))?;
    for user in read.auth_infos.iter().filter_map(|it| it.auth_info.as_ref()) {
        let (Some(certificate), Some(key)) = (certificate_of(user), key_of(user)) else { continue };
        let suits = |pem: &str| Pair::parse(pem, &what()).is_ok_and(|it| it.suits(wish));
        if suits(&format!("{certificate}\n{key}")) {
            return store.put(&certificate, &key, Timestamp::now()).map(|_| ());
        }
    }
    Ok(())
}

fn certificate_of(user: &AuthInfo) -> Option<String> {
    match &user.client_certificate_data {
        Some(data) => decoded(data),
        None => std::fs::read_to_string(user.client_certificate.as_ref()?).ok(),
    }
}

fn key_of(user: &AuthInfo) -> Option<String> {
    if user.client_key_data.is_none() {
        return std::fs::read_to_string(user.client_key.as_ref()?).ok();
    }
    let written = serde_json::to_value(user).ok()?;
    decoded(written.get("client-key-data")?.as_str()?)
}

fn decoded(text: &str) -> Option<String> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok()
}
