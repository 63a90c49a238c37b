//! Certificates over an API server in memory, with a certificate authority of our own.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use coracle_client::testing::FakeApi;
use jiff::Timestamp;
use rcgen::{CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Signs what is asked for; valid from `from` to `until` seconds from now.
fn sign(csr: &Value, from: i64, until: i64) -> String {
    use base64::Engine;
    let text =
        base64::engine::general_purpose::STANDARD.decode(csr["spec"]["request"].as_str().unwrap()).unwrap();
    let mut asked = CertificateSigningRequestParams::from_pem(std::str::from_utf8(&text).unwrap()).unwrap();
    let now = std::time::SystemTime::now();
    let at = |seconds: i64| {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { now - by } else { now + by }
    };
    (asked.params.not_before, asked.params.not_after) = (at(from).into(), at(until).into());
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = Issuer::new(ca, key);
    asked.signed_by(&issuer).unwrap().pem()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The first request that is not answered yet.
async fn next_request(api: &FakeApi) -> Value {
    let open = |it: &Value| it["status"]["certificate"].is_null() && it["status"]["conditions"].is_null();
    api.until(|_| api.list(REQUESTS).into_iter().find(open)).await
}

async fn approve(api: &FakeApi, from: i64, until: i64) -> Value {
    let csr = next_request(api).await;
    let chain = base64(&sign(&csr, from, until));
    let status = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": chain});
    api.merge(
        &format!("{REQUESTS}/{}", csr["metadata"]["name"].as_str().unwrap()),
        &json!({"status": status}),
    );
    csr
}

#[tokio::test]
async fn a_node_asks_for_its_first_certificate() {
    let (api, folder) = (FakeApi::new(), tempfile::tempdir().unwrap());
    let store = CertificateStore::new(folder.path(), CLIENT);
    let (wish, client) = (Wish::client("n1"), api.client());
    let (pair, csr) = tokio::join!(bootstrap::attempt(&client, &wish, &store), approve(&api, -10, 1000));
    let pair = pair.unwrap();
    assert!(pair.suits(&wish) && !pair.suits(&Wish::client("n2")));
    assert_eq!(csr["spec"]["signerName"], "kubernetes.io/kube-apiserver-client-kubelet");
    assert_eq!(csr["spec"]["usages"], json!(["digital signature", "client auth"]));
    let current = folder.path().join("kubelet-client-current.pem");
    let file = std::fs::read_link(&current).unwrap();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("kubelet-client-20"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.current().unwrap().is_some_and(|it| it == pair));
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_restart_waits_for_the_same_request_and_a_denial_is_told() {
    let (api, folder) = (FakeApi::new(), tempfile::tempdir().unwrap());
    let store = CertificateStore::new(folder.path(), CLIENT);
    let (wish, client) = (Wish::client("n1"), api.client());
    // The kubelet is stopped while it waits.
    tokio::select! {
        _ = bootstrap::attempt(&client, &wish, &store) => panic!("nobody has approved"),
        _ = next_request(&api) => {}
    }
    let denied = async {
        let csr = next_request(&api).await;
        let conditions = json!([{"type": "Denied", "status": "True", "reason": "No", "message": "not you"}]);
        api.merge(
            &format!("{REQUESTS}/{}", csr["metadata"]["name"].as_str().unwrap()),
            &json!({"status": {"conditions": conditions}}),
        );
    };
    let (refused, ()) = tokio::join!(bootstrap::attempt(&client, &wish, &store), denied);
    let text = refused.err().unwrap().to_string();
    assert!(text.ends_with("is denied, reason: No, message: not you"), "{text}");
    assert_eq!(api.list(REQUESTS).len(), 1, "the same request was waited for");
    // After a denial the next attempt is another request.
    let (pair, _) = tokio::join!(bootstrap::attempt(&client, &wish, &store), approve(&api, -10, 1000));
    assert!(pair.is_ok());
    assert_eq!(api.list(REQUESTS).len(), 2);
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_expires() {
    let (api, folder) = (FakeApi::new(), tempfile::tempdir().unwrap());
    let store = CertificateStore::new(folder.path(), SERVER);
    let wish = Wish::serving("n1", &["10.0.0.7".parse().unwrap()]);
    let (token, renewals) = (CancellationToken::new(), std::sync::Mutex::new(Vec::new()));
    let keeping = Keeping { client: api.client(), store: store.clone(), wish: wish.clone() };
    let kept = keep(
        keeping,
        |pair| {
            renewals.lock().unwrap().push(pair);
            async {}
        },
        token.clone(),
    );
    let checks = async {
        // There is none: it is asked for at once. This one's time for renewal comes within three seconds.
        let csr = approve(&api, -6, 4).await;
        assert_eq!(csr["spec"]["signerName"], "kubernetes.io/kubelet-serving");
        assert!(csr["metadata"]["name"].as_str().unwrap().starts_with("csr-"));
        approve(&api, -10, 100_000).await;
        while renewals.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        token.cancel();
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(kept, checks) }).await.unwrap();
    let pair = store.current().unwrap().unwrap();
    assert!(pair.suits(&wish));
    assert!(!pair.suits(&Wish::serving("n1", &["10.0.0.8".parse().unwrap()])), "another address");
    let left = pair.not_after.as_second() - Timestamp::now().as_second();
    let life = pair.not_after.as_second() - pair.not_before.as_second();
    let until = pair.renew_at().as_second() - pair.not_before.as_second();
    assert!(left > 90_000 && until * 10 >= life * 7 - 10 && until * 10 <= life * 9 + 10);
}

#[tokio::test]
async fn the_kubeconfig_of_a_node_that_joined() {
    let folder = tempfile::tempdir().unwrap();
    let (given, made) = (folder.path().join("bootstrap.conf"), folder.path().join("etc/kubelet.conf"));
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n\
        - {name: other, cluster: {server: 'https://other:1'}}\n\
        - {name: k, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: ca.crt}}\n\
        contexts:\n- {name: c, context: {cluster: k, user: t}}\nusers:\n- {name: t, user: {token: abcdef.0123456789abcdef}}\n";
    std::fs::write(&given, text).unwrap();
    let with = Bootstrap {
        bootstrap_kubeconfig: given,
        kubeconfig: made.clone(),
        cert_dir: folder.path().join("pki"),
        node: "n1".into(),
    };
    // A certificate from an earlier life is there: nobody has to be asked.
    let store = CertificateStore::new(&with.cert_dir, CLIENT);
    let api = FakeApi::new();
    let (wish, client) = (Wish::client("n1"), api.client());
    let (first, _) = tokio::join!(bootstrap::attempt(&client, &wish, &store), approve(&api, -10, 1000));
    first.unwrap();
    bootstrap(&with).await.unwrap();
    let written = kube::config::Kubeconfig::read_from(&made).unwrap();
    assert_eq!(
        written.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
        Some("https://10.0.0.1:6443")
    );
    let ca = written.clusters[0].cluster.as_ref().unwrap().certificate_authority.clone();
    assert_eq!(ca, Some(folder.path().join("ca.crt").display().to_string()));
    let user = written.auth_infos[0].auth_info.as_ref().unwrap();
    assert_eq!(user.client_certificate, Some(store.current_path().display().to_string()));
    assert_eq!(user.client_key, user.client_certificate);
    assert!(user.token.is_none());
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    // It is usable now: nothing is written again.
    let before = std::fs::metadata(&made).unwrap().modified().unwrap();
    bootstrap(&with).await.unwrap();
    assert_eq!(std::fs::metadata(&made).unwrap().modified().unwrap(), before);
}

#[test]
fn a_kubeconfigs_own_certificate_goes_into_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let wish = Wish::client("n1");
    let csr = json!({"spec": {"request": base64(&wish.csr(&key).unwrap())}});
    let (certificate, key) = (base64(&sign(&csr, -10, 1000)), base64(&key.serialize_pem()));
    let path = folder.path().join("kubelet.conf");
    let user = format!("{{client-certificate-data: {certificate}, client-key-data: {key}}}");
    std::fs::write(&path, format!("apiVersion: v1\nkind: Config\nusers:\n- {{name: a, user: {user}}}\n"))
        .unwrap();
    let store = CertificateStore::new(folder.path(), CLIENT);
    import(&path, &store, &Wish::client("n2")).unwrap();
    assert!(store.current().unwrap().is_none(), "another node's");
    import(&path, &store, &wish).unwrap();
    assert!(store.current().unwrap().is_some_and(|it| it.suits(&wish)));
}
