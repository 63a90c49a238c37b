//! The fields of bootstrap tokens that are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_client::slim_view;
use coracle_client::views::Meta;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// A Secret that is a token. Not printable: it is a secret.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Token {
    pub(crate) metadata: Meta,
    #[serde(rename = "type")]
    kind: String,
    data: BTreeMap<String, String>,
}

slim_view!(Token);

impl Token {
    fn text(&self, key: &str) -> Option<String> {
        STANDARD.decode(self.data.get(key)?).ok().and_then(|it| String::from_utf8(it).ok())
    }

    /// When it ends; a time that cannot be read has passed.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        Some(self.text("expiration")?.parse().unwrap_or(Timestamp::MIN))
    }

    /// Id and secret, when it is for signing and its time is not over.
    pub(super) fn signing(&self, now: Timestamp) -> Option<(String, String)> {
        let usable = self.kind == SECRET_TYPE
            && !self.metadata.is_terminating()
            && self.text("usage-bootstrap-signing").as_deref() == Some("true")
            && self.expires().is_none_or(|at| at > now);
        let id = self.text("token-id").filter(|it| usable && !it.is_empty())?;
        let named = self.metadata.name.strip_prefix("bootstrap-token-") == Some(id.as_str());
        let secret = self.text("token-secret").filter(|it| named && !it.is_empty())?;
        Some((id, secret))
    }
}
