//! What docker's configuration files, and Secrets in their form, say about registries.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value};

use super::keyring::{Credential, SecretRef, Source};

/// The entries of a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`. What cannot be read
/// is left out.
pub fn of_secret(secret: &Secret) -> Vec<Credential> {
    let file = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        Some(&bytes.0)
    };
    let of = |hash: String| {
        let text = |it: &Option<String>| it.clone().unwrap_or_default();
        Source::Secret(SecretRef {
            uid: text(&secret.metadata.uid),
            namespace: text(&secret.metadata.namespace),
            name: text(&secret.metadata.name),
            hash,
        })
    };
    let entries = match (file(".dockerconfigjson"), file(".dockercfg")) {
        (Some(bytes), _) => config_json(bytes),
        (None, Some(bytes)) => dockercfg(bytes),
        (None, None) => None,
    };
    let credentials = entries.unwrap_or_default().into_iter();
    credentials
        .map(|it| {
            let source = of(it.fingerprint());
            Credential { source, ..it }
        })
        .collect()
}

/// A `config.json`: entries are below `auths`. None when it is not one.
pub(super) fn config_json(bytes: &[u8]) -> Option<Vec<Credential>> {
    let file: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    match file.get("auths") {
        Some(Value::Object(auths)) => Some(entries(auths)),
        Some(_) => None,
        None => Some(Vec::new()),
    }
}

/// A `.dockercfg`: entries at the top. None when it is not one.
pub(super) fn dockercfg(bytes: &[u8]) -> Option<Vec<Credential>> {
    serde_json::from_slice(bytes).ok().as_ref().map(entries)
}

fn entries(auths: &Map<String, Value>) -> Vec<Credential> {
    auths.iter().filter_map(|(registry, entry)| credential(registry, entry)).collect()
}

fn credential(registry: &str, entry: &Value) -> Option<Credential> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    let auth = text("auth");
    if !auth.is_empty() {
        (username, password) = decode(&auth)?;
    }
    let identity_token = text("identitytoken");
    if username.is_empty() && password.is_empty() && identity_token.is_empty() {
        return None;
    }
    Some(Credential { identity_token, ..Credential::new(registry, username, password) })
}

fn decode(auth: &str) -> Option<(String, String)> {
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(key: &str, json: String) -> Secret {
        Secret { data: Some([(key.to_owned(), ByteString(json.into_bytes()))].into()), ..Secret::default() }
    }

    fn users(secret: &Secret) -> Vec<String> {
        of_secret(secret).iter().map(|it| format!("{}={}", it.key, it.auth().username)).collect()
    }

    #[test]
    fn secrets_of_both_types() {
        let auth = STANDARD.encode("me:se:cret");
        let entry = format!(r#"{{"https://reg.example/v1/":{{"auth":"{auth}"}}}}"#);
        let json = secret(".dockerconfigjson", format!(r#"{{"auths":{entry}}}"#));
        assert_eq!(users(&json), ["reg.example=me"]);
        assert_eq!(of_secret(&json)[0].auth().password, "se:cret");
        assert_eq!(users(&secret(".dockercfg", entry)), ["reg.example=me"]);
        let plain = r#"{"reg.example/team":{"username":"u","password":"p","email":"x"}}"#;
        assert_eq!(users(&secret(".dockercfg", plain.into())), ["reg.example/team=u"]);
        let no_padding = format!(r#"{{"r.example":{{"auth":"{}"}}}}"#, STANDARD_NO_PAD.encode("me:s"));
        assert_eq!(users(&secret(".dockercfg", no_padding)), ["r.example=me"]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let check =
            |key: &str, json: &str| assert_eq!(users(&secret(key, json.into())), Vec::<String>::new());
        check(".dockerconfigjson", "{");
        check(".dockerconfigjson", r#"{"auths":3}"#);
        check(".dockerconfigjson", "{}");
        check(".dockercfg", r#"{"r.example":{"auth":"!!"}}"#);
        check(".dockercfg", r#"{"r.example":{"auth":"bm90aGluZw=="}}"#);
        check("other", "{}");
    }
}
