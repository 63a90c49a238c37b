//! Versions, cipher suites and curves by their names.

use rustls::{CipherSuite, NamedGroup};
use serde_json::Value;

use super::resolve::Doc;
use super::{ConfigurationError, TlsSettings};

/// The suites that this program's TLS speaks, by their IANA names and the older names that Go knows.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The curves that it speaks, by their numbers.
const GROUPS: &[(i64, NamedGroup)] =
    &[(23, NamedGroup::secp256r1), (24, NamedGroup::secp384r1), (29, NamedGroup::X25519)];

pub(super) fn resolve(doc: &Doc) -> Result<TlsSettings, ConfigurationError> {
    let refused =
        |field: &str, value: String| Err(ConfigurationError::NotSupported(vec![(field.to_owned(), value)]));
    let only_13 = match doc.text("tlsMinVersion") {
        // What is older than 1.2 is not spoken: asking for less gets more.
        "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => false,
        "VersionTLS13" => true,
        _ => return Err(doc.invalid("tlsMinVersion", "is a version of TLS that there is not")),
    };
    let mut settings = TlsSettings { only_13, ..TlsSettings::default() };
    for name in doc.texts("tlsCipherSuites") {
        match SUITES.iter().find(|it| it.0 == name) {
            Some((_, suite)) => settings.suites.push(*suite),
            None => return refused("tlsCipherSuites", format!("{name:?}")),
        }
    }
    let curves = doc.at("tlsCurvePreferences").and_then(Value::as_array).into_iter().flatten();
    for number in curves.filter_map(Value::as_i64) {
        match GROUPS.iter().find(|it| it.0 == number) {
            Some((_, group)) => settings.groups.push(*group),
            None => return refused("tlsCurvePreferences", number.to_string()),
        }
    }
    Ok(settings)
}
