use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::auth::{AnonymousPolicy, AuthIndex, Authenticator, Unauthenticated};

fn options() -> PkiOptions {
    PkiOptions {
        cluster_domain: "cluster.local".to_owned(),
        addresses: vec!["10.96.0.1".parse().unwrap(), "192.0.2.7".parse().unwrap()],
        names: vec!["host".to_owned()],
    }
}

#[test]
fn what_was_made_is_reused_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pki");
    let first = Pki::open(&path, &options()).unwrap();
    let admin = first.admin().unwrap();
    first.token_authority("i", vec![]).unwrap();
    let second = Pki::open(&path, &options()).unwrap();
    assert_eq!(second.ca_pem(), first.ca_pem());
    assert_eq!(second.serving().certificate, first.serving().certificate);
    assert_eq!(second.admin().unwrap().certificate, admin.certificate);
    assert_eq!(
        second.token_authority("i", vec![]).unwrap().jwks(),
        first.token_authority("i", vec![]).unwrap().jwks()
    );
    for file in std::fs::read_dir(&path).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn another_address_makes_another_certificate_but_not_another_ca() {
    let folder = tempfile::tempdir().unwrap();
    let first = Pki::open(folder.path(), &options()).unwrap();
    let mut moved = options();
    moved.addresses.push("192.0.2.8".parse().unwrap());
    let second = Pki::open(folder.path(), &moved).unwrap();
    assert_eq!(second.ca_pem(), first.ca_pem());
    assert_ne!(second.serving().certificate, first.serving().certificate);
}

#[test]
fn a_certificate_near_its_end_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let wanted = serving(&options());
    let today = issue::today();
    let after = |days| today.saturating_add(jiff::Span::new().days(days));
    assert!(issue::holds(pki.serving(), &wanted, pki.ca_pem(), after(200)));
    assert!(!issue::holds(pki.serving(), &wanted, pki.ca_pem(), after(300)));
}

#[test]
fn half_a_ca_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Pki::open(folder.path(), &options()).unwrap();
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    let before = std::fs::read(folder.path().join("ca.crt")).unwrap();
    let err = Pki::open(folder.path(), &options()).err().unwrap();
    assert!(err.to_string().ends_with("ca.crt is there, ca.key is missing"), "{err}");
    assert_eq!(std::fs::read(folder.path().join("ca.crt")).unwrap(), before);
}

fn authenticator(pki: &Pki) -> Authenticator {
    let tokens = pki.token_authority("https://issuer", vec!["api".to_owned()]).unwrap();
    let index = Arc::new(AuthIndex::default());
    index.changed("serviceaccounts", "ns", "sa", Some(&json!({"metadata": {"uid": "u"}})));
    Authenticator::new(pki.client_verifier().unwrap(), Arc::new(tokens), index, AnonymousPolicy::default())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn certificates_name_their_users() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let authenticator = authenticator(&pki);
    let (chain, _) = pki.node("n1").unwrap().parsed().unwrap();
    let user = authenticator.authenticate(&chain, &HeaderMap::new(), "/api", now()).unwrap();
    assert_eq!(user.username, "system:node:n1");
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    assert_eq!(user.node_name(), Some("n1"));
    // A server's certificate is no client's, and a stranger's CA is not ours.
    let (chain, _) = pki.serving().parsed().unwrap();
    let refused = authenticator.authenticate(&chain, &HeaderMap::new(), "/healthz", now());
    assert!(matches!(refused, Err(Unauthenticated::Certificate(_))), "{refused:?}");
    let other = tempfile::tempdir().unwrap();
    let (chain, _) = Pki::open(other.path(), &options()).unwrap().admin().unwrap().parsed().unwrap();
    let refused = authenticator.authenticate(&chain, &HeaderMap::new(), "/api", now());
    assert!(matches!(refused, Err(Unauthenticated::Certificate(_))), "{refused:?}");
}

#[test]
fn tokens_and_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let authenticator = authenticator(&pki);
    let subject = crate::auth::TokenSubject {
        namespace: "ns".to_owned(),
        serviceaccount: crate::auth::token::Reference { name: "sa".to_owned(), uid: "u".to_owned() },
        ..Default::default()
    };
    let (token, _) = authenticator.tokens().issue(subject, &[], 600, now()).unwrap();
    let ask = |value: Option<String>, path: &str| {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert("authorization", value.parse().unwrap());
        }
        authenticator
            .authenticate(&[], &headers, path, now())
            .map(|user| user.username)
            .map_err(|err| err.to_string())
    };
    assert_eq!(ask(Some(format!("Bearer {token}")), "/api").unwrap(), "system:serviceaccount:ns:sa");
    assert_eq!(ask(Some("Bearer nonsense".to_owned()), "/healthz").unwrap_err(), "verify bearer token");
    assert_eq!(ask(None, "/healthz/ping").unwrap(), "system:anonymous");
    assert_eq!(ask(None, "/healthzz").unwrap_err(), "no credentials");
    assert_eq!(ask(None, "/api").unwrap_err(), "no credentials");
}

#[test]
fn both_ends_of_tls_agree() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let server = pki.server_config().unwrap();
    let client = pki.client_config(&pki.admin().unwrap()).unwrap();
    for name in ["kubernetes.default.svc.cluster.local", "10.96.0.1", "127.0.0.1", "host"] {
        let mut from =
            rustls::ClientConnection::new(Arc::new(client.clone()), name.to_owned().try_into().unwrap())
                .unwrap();
        let mut to = rustls::ServerConnection::new(Arc::new(server.clone())).unwrap();
        while from.is_handshaking() || to.is_handshaking() {
            let mut wire = Vec::new();
            from.write_tls(&mut wire).unwrap();
            to.read_tls(&mut wire.as_slice()).unwrap();
            to.process_new_packets().unwrap();
            wire.clear();
            to.write_tls(&mut wire).unwrap();
            from.read_tls(&mut wire.as_slice()).unwrap();
            from.process_new_packets().unwrap();
        }
        assert_eq!(to.peer_certificates().map(<[_]>::len), Some(1), "{name}");
    }
}

/// A request for several groups and names, by a key of its own.
fn request(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    params.subject_alt_names.push(rcgen::SanType::DnsName("n1".try_into().unwrap()));
    params.subject_alt_names.push(rcgen::SanType::IpAddress("192.0.2.9".parse().unwrap()));
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn a_request_is_signed_for_its_own_key_names_and_uses() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let key = KeyPair::generate().unwrap();
    let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let now = jiff::Timestamp::now().as_second();
    let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
    let text = request(&key);
    let signing = Signing {
        request: text.as_bytes(),
        usages: &usages,
        not_before: at(now - 300),
        not_after: at(now + 3600),
    };
    let pem = pki.sign(signing).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (rest, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(rest.is_empty());
    let ca = pki.ca_der().unwrap();
    let (_, authority) = x509_parser::parse_x509_certificate(&ca).unwrap();
    parsed.verify_signature(Some(authority.public_key())).unwrap();
    assert_eq!(parsed.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(parsed.validity().not_before.timestamp(), now - 300);
    assert_eq!(parsed.validity().not_after.timestamp(), now + 3600);
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && !purposes.server_auth);
    let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 2);
    // The server lets its holder in.
    let config = pki.client_verifier().unwrap();
    let when = rustls::pki_types::UnixTime::now();
    config.verify_client_cert(&der, &[], when).unwrap();

    // Not beyond the CA's own end, and not without a life of its own.
    let end = authority.validity().not_after.timestamp();
    let long = pki.sign(Signing { not_after: at(end + 99), ..signing }).unwrap();
    let der = CertificateDer::from_pem_slice(long.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(parsed.validity().not_after.timestamp(), end);
    assert!(matches!(pki.sign(Signing { not_before: at(end), ..signing }), Err(SignError::Time(_))));
    let odd = ["fun".to_owned()];
    assert!(matches!(pki.sign(Signing { usages: &odd, ..signing }), Err(SignError::Usage(_))));
}

#[test]
fn a_request_whose_key_did_not_sign_it_is_refused() {
    use base64::Engine;
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path(), &options()).unwrap();
    let text = request(&KeyPair::generate().unwrap());
    let (_, block) = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap();
    let mut der = block.contents.clone();
    // One bit of the address.
    let place = der.windows(4).position(|it| it == [192, 0, 2, 9]).unwrap();
    der[place + 3] = 8;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    let now = jiff::Timestamp::now();
    let after = now + jiff::SignedDuration::from_hours(1);
    let signing = Signing { request: forged.as_bytes(), usages: &[], not_before: now, not_after: after };
    assert!(matches!(pki.sign(signing), Err(SignError::Request(_))));
}
