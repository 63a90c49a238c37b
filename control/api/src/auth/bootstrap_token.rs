//! Bootstrap tokens: what a machine that is no node yet shows. They rest as Secrets of `kube-system`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::token::TokenError;
use super::user::UserInfo;

/// Where such Secrets are.
pub const NAMESPACE: &str = "kube-system";
/// What their names begin with; the token's id follows.
pub const PREFIX: &str = "bootstrap-token-";
/// Their type.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of all who show one.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// A group's name after `system:bootstrappers:` at most.
const GROUP_LENGTH: usize = 256;

/// A token that may be shown here. Not printable: it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
    /// Unix seconds; `None`: never.
    expires: Option<i64>,
    groups: Vec<String>,
}

/// Id and secret of what looks like a bootstrap token: `abcdef.0123456789abcdef`.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let plain = |text: &str| text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let (id, secret) = token.split_once('.')?;
    let whole = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret);
    whole.then_some((id, secret))
}

impl BootstrapToken {
    /// What a Secret says, if it is a token for authentication at all.
    pub fn of_secret(object: &Value) -> Option<Self> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let data = |key: &str| decoded(object.pointer("/data")?.get(key)?.as_str()?);
        let id = text("/metadata/name").strip_prefix(PREFIX)?;
        let usable = text("/type") == SECRET_TYPE
            && text("/metadata/deletionTimestamp").is_empty()
            && data("token-id").as_deref() == Some(id)
            && data("usage-bootstrap-authentication").as_deref() == Some("true");
        let secret = data("token-secret").filter(|it| split(&format!("{id}.{it}")).is_some())?;
        if !usable {
            return None;
        }
        // A time that cannot be read is one that has passed.
        let seconds = |time: String| time.parse().map_or(i64::MIN, |it: jiff::Timestamp| it.as_second());
        let expires = data("expiration").map(seconds);
        let mut groups = vec![BOOTSTRAPPERS.to_owned()];
        for group in data("auth-extra-groups").unwrap_or_default().split(',').filter(|it| !it.is_empty()) {
            if !is_group(group) {
                return None;
            }
            groups.push(group.to_owned());
        }
        Some(Self { id: id.to_owned(), secret, expires, groups })
    }

    /// The token's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who shows it with this secret at `now`.
    pub fn user(&self, secret: &str, now: i64) -> Result<UserInfo, TokenError> {
        if !same(secret.as_bytes(), self.secret.as_bytes()) {
            return Err(TokenError::Foreign);
        }
        if self.expires.is_some_and(|at| at <= now) {
            return Err(TokenError::Expired);
        }
        Ok(UserInfo::authenticated(format!("system:bootstrap:{}", self.id), self.groups.iter().cloned()))
    }
}

fn decoded(text: &str) -> Option<String> {
    STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Whether a Secret may put its holder into the group.
fn is_group(name: &str) -> bool {
    let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b':' || it == b'-';
    let Some(rest) = name.strip_prefix(BOOTSTRAPPERS).and_then(|it| it.strip_prefix(':')) else {
        return false;
    };
    let last = rest.bytes().last().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    last && rest.len() <= GROUP_LENGTH && rest.bytes().all(allowed)
}

/// Takes the same time wherever the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(change: impl Fn(&mut Value)) -> Value {
        let data = |pairs: &[(&str, &str)]| -> Value {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect()
        };
        let mut object = json!({
            "type": SECRET_TYPE,
            "metadata": { "name": "bootstrap-token-abcdef", "namespace": NAMESPACE },
            "data": data(&[
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
                ("auth-extra-groups", "system:bootstrappers:a,system:bootstrappers:b-1"),
                ("expiration", "2026-01-01T00:00:00Z"),
            ]),
        });
        change(&mut object);
        object
    }

    #[test]
    fn a_token_names_its_holder_until_it_ends() {
        let token = BootstrapToken::of_secret(&secret(|_| {})).unwrap();
        let end: i64 = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        let user = token.user("0123456789abcdef", end - 1).unwrap();
        assert_eq!(user.username, "system:bootstrap:abcdef");
        let groups = [
            "system:bootstrappers",
            "system:bootstrappers:a",
            "system:bootstrappers:b-1",
            "system:authenticated",
        ];
        assert_eq!(user.groups, groups);
        assert!(matches!(token.user("0123456789abcdef", end), Err(TokenError::Expired)));
        assert!(matches!(token.user("0123456789abcdee", end - 1), Err(TokenError::Foreign)));
    }

    #[test]
    fn what_is_no_token_lets_nobody_in() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 7] = [
            ("another type", |it| it["type"] = json!("Opaque")),
            ("being deleted", |it| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            ("another name", |it| it["metadata"]["name"] = json!("bootstrap-token-abcdeg")),
            ("not for authentication", |it| {
                it["data"]["usage-bootstrap-authentication"] = json!(STANDARD.encode("false"));
            }),
            ("a short secret", |it| it["data"]["token-secret"] = json!(STANDARD.encode("0123"))),
            ("a group of masters", |it| {
                it["data"]["auth-extra-groups"] = json!(STANDARD.encode("system:masters"));
            }),
            ("a group without end", |it| {
                it["data"]["auth-extra-groups"] = json!(STANDARD.encode("system:bootstrappers:"));
            }),
        ];
        for (what, change) in changes {
            assert!(BootstrapToken::of_secret(&secret(change)).is_none(), "{what}");
        }
        let never = secret(|it| drop(it["data"].as_object_mut().unwrap().remove("expiration")));
        assert!(BootstrapToken::of_secret(&never).unwrap().user("0123456789abcdef", i64::MAX).is_ok());
        let odd = secret(|it| it["data"]["expiration"] = json!(STANDARD.encode("tomorrow")));
        assert!(BootstrapToken::of_secret(&odd).unwrap().user("0123456789abcdef", 0).is_err());
    }

    #[test]
    fn tokens_have_two_parts() {
        for (text, good) in [
            ("abcdef.0123456789abcdef", true),
            ("abcdef.0123456789abcde", false),
            ("abcde.0123456789abcdef", false),
            ("ABCDEF.0123456789abcdef", false),
            ("abcdef0123456789abcdef", false),
        ] {
            assert_eq!(split(text).is_some(), good, "{text}");
        }
    }
}
