//! imagePullSecrets: which user and password for which registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_cri::proto as v1;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// What one registry wants to hear.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Host, perhaps with a port and a path.
    pub registry: String,
    username: String,
    password: String,
    identity_token: String,
}

impl Credential {
    /// As CRI wants it.
    pub fn auth(&self) -> v1::AuthConfig {
        v1::AuthConfig {
            username: self.username.clone(),
            password: self.password.clone(),
            identity_token: self.identity_token.clone(),
            server_address: self.registry.clone(),
            ..Default::default()
        }
    }
}

/// The entries of a Secret of type dockerconfigjson or dockercfg.
pub fn of_secret(secret: &Secret) -> Vec<Credential> {
    let data = secret.data.as_ref();
    let file = |key: &str| {
        let bytes = data.and_then(|it| it.get(key))?;
        serde_json::from_slice::<Value>(&bytes.0).ok()
    };
    let auths =
        file(".dockerconfigjson").and_then(|it| it.get("auths").cloned()).or_else(|| file(".dockercfg"));
    let Some(Value::Object(auths)) = auths else { return Vec::new() };
    auths.iter().filter_map(|(registry, entry)| credential(registry, entry)).collect()
}

fn credential(registry: &str, entry: &Value) -> Option<Credential> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if let Some((user, word)) = decode(&text("auth")) {
        (username, password) = (user, word);
    }
    let identity_token = text("identitytoken");
    if username.is_empty() && identity_token.is_empty() {
        return None;
    }
    let registry = registry.trim_start_matches("https://").trim_start_matches("http://");
    let registry = registry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2").to_owned();
    Some(Credential { registry, username, password, identity_token })
}

fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Those that are for this image, the longest match first.
pub fn credentials<'a>(image: &str, known: &'a [Credential]) -> Vec<&'a Credential> {
    let host = image.split('/').next().filter(|it| image.contains('/') && it.contains(['.', ':']));
    let full = match host {
        Some(_) => image.to_owned(),
        None if image.contains('/') => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    };
    let matches = |it: &&Credential| {
        let registry = if it.registry == "index.docker.io" { "docker.io" } else { it.registry.as_str() };
        full.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut found: Vec<&Credential> = known.iter().filter(matches).collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.registry.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_secret() {
        let json = format!(
            r#"{{"auths":{{"https://reg.example/v1/":{{"auth":"{}"}},"reg.example/team":{{"username":"u","password":"p"}}}}}}"#,
            STANDARD.encode("me:secret")
        );
        let data = [(".dockerconfigjson".to_owned(), ByteString(json.into_bytes()))].into();
        let known = of_secret(&Secret { data: Some(data), ..Secret::default() });
        let users = |image: &str| -> Vec<String> {
            credentials(image, &known).iter().map(|it| it.auth().username).collect()
        };
        assert_eq!(users("reg.example/team/app:1"), ["u", "me"]);
        assert_eq!(users("reg.example/other/app:1"), ["me"]);
        assert_eq!(users("busybox:1"), Vec::<String>::new());
    }
}
