use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn authority() -> TokenAuthority {
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    TokenAuthority::new(ISSUER, vec![ISSUER.to_owned()], SigningKey::from_pem(&pem).unwrap())
}

fn index() -> AuthIndex {
    let index = AuthIndex::default();
    index.changed("serviceaccounts", "ns", "sa", Some(&json!({"metadata": {"uid": "u-sa"}})));
    index.changed(
        "pods",
        "ns",
        "web",
        Some(&json!({"metadata": {"uid": "u-pod"}, "spec": {"nodeName": "n"}})),
    );
    index
}

fn subject() -> TokenSubject {
    TokenSubject {
        namespace: "ns".to_owned(),
        serviceaccount: Reference { name: "sa".to_owned(), uid: "u-sa".to_owned() },
        pod: Some(Reference { name: "web".to_owned(), uid: "u-pod".to_owned() }),
        ..TokenSubject::default()
    }
}

#[test]
fn a_token_is_good_until_it_ends_or_its_objects_do() {
    let (authority, index) = (authority(), index());
    let (token, end) = authority.issue(subject(), &[], 600, 1000).unwrap();
    assert_eq!(end, 1600);
    let verified = authority.verify(&token, &[], 1300, &index).unwrap();
    assert_eq!(verified.user.username, "system:serviceaccount:ns:sa");
    assert_eq!(
        verified.user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
    );
    assert_eq!(verified.user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
    assert!(matches!(authority.verify(&token, &[], 1700, &index), Err(TokenError::Expired)));
    assert!(matches!(authority.verify(&token, &[], 900, &index), Err(TokenError::TooEarly)));
    let other = ["other".to_owned()];
    assert!(matches!(authority.verify(&token, &other, 1300, &index), Err(TokenError::Audience { .. })));
    index.changed("pods", "ns", "web", Some(&json!({"metadata": {"uid": "another"}})));
    assert!(matches!(authority.verify(&token, &[], 1300, &index), Err(TokenError::Unbound(_))));
}

#[test]
fn a_forged_token_is_refused() {
    let (authority, index) = (authority(), index());
    let (token, _) = authority.issue(subject(), &[], 600, 1000).unwrap();
    let (body, signature) = token.rsplit_once('.').unwrap();
    let (stranger, _) = self::authority().issue(subject(), &[], 600, 1000).unwrap();
    let forged = format!("{body}.{}", stranger.rsplit_once('.').unwrap().1);
    assert!(matches!(authority.verify(&forged, &[], 1300, &index), Err(TokenError::Signature)));
    assert!(matches!(authority.verify(&stranger, &[], 1300, &index), Err(TokenError::Signature)));
    assert!(matches!(authority.verify("abc", &[], 1300, &index), Err(TokenError::Foreign)));
    assert!(matches!(authority.verify(signature, &[], 1300, &index), Err(TokenError::Foreign)));
}

#[test]
fn a_hourly_token_of_a_pod_outlives_its_hour_and_warns() {
    let (authority, index) = (authority(), index());
    let (token, end) = authority.issue(subject(), &[], 3607, 1000).unwrap();
    assert_eq!(end, 4607);
    assert!(!authority.verify(&token, &[], 4000, &index).unwrap().stale);
    assert!(authority.verify(&token, &[], 90_000, &index).unwrap().stale);
}

#[test]
fn rsa_keys_sign_and_verify_too() {
    // Made by openssl for this test alone.
    let pem = include_str!("testdata/rsa.pem");
    let authority = TokenAuthority::new(ISSUER, vec![ISSUER.to_owned()], SigningKey::from_pem(pem).unwrap());
    let (token, _) = authority.issue(subject(), &[], 600, 1000).unwrap();
    assert!(authority.verify(&token, &[], 1300, &index()).is_ok());
    let jwk = &authority.jwks()["keys"][0];
    assert_eq!(
        (jwk["kty"].as_str(), jwk["alg"].as_str(), jwk["e"].as_str()),
        (Some("RSA"), Some("RS256"), Some("AQAB"))
    );
}

#[test]
fn a_bond_to_a_secret_is_refused() {
    let (authority, index) = (authority(), index());
    let check = |secret: Option<Reference>, good: bool| {
        let (token, _) = authority.issue(TokenSubject { secret, ..subject() }, &[], 600, 1000).unwrap();
        assert_eq!(authority.verify(&token, &[], 1300, &index).is_ok(), good);
    };
    check(None, true);
    check(Some(Reference { name: "s".to_owned(), uid: "u".to_owned() }), false);
}

#[test]
fn the_longest_life_does_not_overflow() {
    let (_, end) = authority().issue(subject(), &[], i64::MAX, 1000).unwrap();
    assert_eq!(end, i64::MAX);
}
