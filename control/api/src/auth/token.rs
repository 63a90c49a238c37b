//! Service-account tokens: signed, bound to objects, expiring.
//!
//! The claims are upstream's, so that a token of ours can be read by whoever reads theirs. ES256 is what we make; RS256
//! keys are accepted for signing and verifying, so that a cluster's old key keeps working.

mod jws; // the signature and its keys
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use jws::{KeyError, SigningKey, VerifyKey};

use super::index::AuthIndex;
use super::user::UserInfo;

/// An object a token names: name and uid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid; empty in tokens for a node that was not known when they were made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// For whom a token is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSubject {
    /// Namespace of the account and of what it is bound to.
    pub namespace: String,
    /// The node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The account.
    pub serviceaccount: Reference,
    /// When its holder should have fetched a new one; later use is worth a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it may be shown to.
    pub aud: Vec<String>,
    /// When it ends.
    pub exp: i64,
    /// When it was made.
    #[serde(default)]
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own id.
    #[serde(default)]
    pub jti: String,
    /// For whom.
    #[serde(rename = "kubernetes.io")]
    pub subject: TokenSubject,
    /// When it begins.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:namespace:name`.
    pub sub: String,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this authority: another authenticator may know it.
    #[error("not a token of this issuer")]
    Foreign,
    /// No key of ours made its signature.
    #[error("verify token signature")]
    Signature,
    /// It is not a JWT as it should be.
    #[error("read token claims: {0}")]
    Malformed(String),
    /// Its time is over.
    #[error("token has expired")]
    Expired,
    /// Its time has not come.
    #[error("service account token is not valid yet")]
    TooEarly,
    /// It was made for somebody else.
    #[error("token audiences {token:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// What it says.
        token: Vec<String>,
        /// What it should say one of.
        wanted: Vec<String>,
    },
    /// What it is bound to is gone.
    #[error("service account token has been invalidated: {0} is gone")]
    Unbound(String),
}

/// A second at most between our clock's reading and another's.
const LEEWAY: i64 = 10;
/// A projected token that its owner renews hourly is made to live a year, so that old clients survive; this is the
/// request that means it.
const EXTENDABLE: i64 = 3607;
const YEAR: i64 = 365 * 24 * 3600;

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The account, as a user.
    pub user: UserInfo,
    /// The audiences that the token and the question have in common.
    pub audiences: Vec<String>,
    /// Whether its holder should have renewed it.
    pub stale: bool,
}

/// Makes and verifies tokens.
#[derive(Debug)]
pub struct TokenAuthority {
    issuer: String,
    audiences: Vec<String>,
    signer: SigningKey,
    others: Vec<VerifyKey>,
}

impl TokenAuthority {
    /// An authority called `issuer` whose tokens are for `audiences` (the API server's own) unless asked otherwise.
    pub fn new(issuer: &str, audiences: Vec<String>, signer: SigningKey) -> Self {
        Self { issuer: issuer.to_owned(), audiences, signer, others: Vec::new() }
    }

    /// Also accepts tokens signed by these keys: earlier ones of the cluster.
    pub fn also_accepting(mut self, keys: Vec<VerifyKey>) -> Self {
        self.others.extend(keys);
        self
    }

    /// The API server's audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token for `subject`, from `now` on (Unix seconds) for `seconds`; no `audiences` means the API server's own.
    /// Gives the token and when it ends.
    pub fn issue(
        &self,
        mut subject: TokenSubject,
        audiences: &[String],
        seconds: i64,
        now: i64,
    ) -> Result<(String, i64), KeyError> {
        let own = audiences.is_empty() || audiences == self.audiences;
        let mut lifetime = seconds;
        if seconds == EXTENDABLE && own && subject.pod.is_some() {
            subject.warnafter = Some(now.saturating_add(seconds));
            lifetime = YEAR;
        }
        let claims = Claims {
            aud: if own { self.audiences.clone() } else { audiences.to_vec() },
            exp: now.saturating_add(lifetime),
            iat: now,
            iss: self.issuer.clone(),
            jti: jws::random_uuid()?,
            sub: format!("system:serviceaccount:{}:{}", subject.namespace, subject.serviceaccount.name),
            subject,
            nbf: now,
        };
        let body = serde_json::to_vec(&claims).map_err(|err| KeyError::Sign(err.to_string()))?;
        // The answer names the short life, so that the holder renews in time.
        Ok((self.signer.sign(&body)?, now.saturating_add(seconds)))
    }

    /// Reads and checks a token: signature, time, audience (one of `wanted`; none means the API server's own), and
    /// that what it is bound to still exists.
    pub fn verify(
        &self,
        token: &str,
        wanted: &[String],
        now: i64,
        index: &AuthIndex,
    ) -> Result<Verified, TokenError> {
        let parts = jws::Parts::split(token).ok_or(TokenError::Foreign)?;
        if parts.issuer().as_deref() != Some(self.issuer.as_str()) {
            return Err(TokenError::Foreign);
        }
        let keys = std::iter::once(self.signer.verify_key()).chain(&self.others);
        if !keys.into_iter().any(|key| key.verifies(&parts)) {
            return Err(TokenError::Signature);
        }
        let claims: Claims =
            serde_json::from_slice(&parts.claims).map_err(|err| TokenError::Malformed(err.to_string()))?;
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err(TokenError::TooEarly);
        }
        let wanted = if wanted.is_empty() { &self.audiences } else { wanted };
        let audiences: Vec<String> = wanted.iter().filter(|it| claims.aud.contains(it)).cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience { token: claims.aud, wanted: wanted.to_vec() });
        }
        check_bound(&claims, index)?;
        let stale = claims.subject.warnafter.is_some_and(|at| now > at);
        Ok(Verified { user: user_of(&claims), audiences, stale })
    }

    /// The public keys, as `/openid/v1/jwks` serves them.
    pub fn jwks(&self) -> Value {
        let keys = std::iter::once(self.signer.verify_key()).chain(&self.others);
        json!({ "keys": keys.map(VerifyKey::jwk).collect::<Vec<_>>() })
    }

    /// What `/.well-known/openid-configuration` serves.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        let keys = std::iter::once(self.signer.verify_key()).chain(&self.others);
        let mut algorithms: Vec<&str> = keys.map(VerifyKey::algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }
}

fn check_bound(claims: &Claims, index: &AuthIndex) -> Result<(), TokenError> {
    let subject = &claims.subject;
    let account = &subject.serviceaccount;
    if index.service_account_uid(&subject.namespace, &account.name).as_deref() != Some(account.uid.as_str()) {
        return Err(TokenError::Unbound(format!("service account {}/{}", subject.namespace, account.name)));
    }
    if let Some(pod) = &subject.pod
        && index.pod(&subject.namespace, &pod.name).is_none_or(|it| it.uid != pod.uid)
    {
        return Err(TokenError::Unbound(format!("pod {}/{}", subject.namespace, pod.name)));
    }
    // Nobody here follows secrets: a bond that cannot be checked must not count as whole.
    if let Some(secret) = &subject.secret {
        return Err(TokenError::Malformed(format!(
            "bound to secret {}/{}, which is not supported",
            subject.namespace, secret.name
        )));
    }
    // A node reference beside a pod only informs; alone, it binds.
    if let (None, Some(node)) = (&subject.pod, &subject.node)
        && index.node_uid(&node.name).as_deref() != Some(node.uid.as_str())
    {
        return Err(TokenError::Unbound(format!("node {}", node.name)));
    }
    Ok(())
}

fn user_of(claims: &Claims) -> UserInfo {
    let subject = &claims.subject;
    let account = &subject.serviceaccount;
    let mut user = UserInfo::service_account(&subject.namespace, &account.name, &account.uid);
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &subject.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &subject.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    user
}
