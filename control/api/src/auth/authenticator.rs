//! Who is calling: a certificate of the cluster's CA, a bearer token, or nobody.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::bootstrap_token;
use super::index::AuthIndex;
use super::token::{TokenAuthority, TokenError, Verified};
use super::user::UserInfo;

/// Credentials that are not accepted: 401.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// None were given where some are needed.
    #[error("no credentials")]
    Missing,
    /// The certificate is not one of ours.
    #[error("verify client certificate: {0}")]
    Certificate(String),
    /// The token is not accepted.
    #[error("verify bearer token")]
    Token(#[source] TokenError),
}

/// Whom to let in without credentials, as `system:anonymous`; what such a caller may do is for the authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// Nobody.
    Off,
    /// Callers of these paths.
    Paths(Vec<String>),
    /// Everybody.
    On,
}

/// How a machine that joins learns about the cluster.
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

impl Default for AnonymousPolicy {
    /// Health, version, and what a machine reads before it can know whom to trust.
    fn default() -> Self {
        Self::Paths(["/healthz", "/livez", "/readyz", "/version", CLUSTER_INFO].map(str::to_owned).to_vec())
    }
}

impl AnonymousPolicy {
    fn admits(&self, path: &str) -> bool {
        match self {
            Self::Off => false,
            Self::On => true,
            Self::Paths(paths) => paths.iter().any(|it| {
                path.strip_prefix(it.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        }
    }
}

/// Finds out who is calling.
pub struct Authenticator {
    certificates: Arc<dyn ClientCertVerifier>,
    tokens: Arc<TokenAuthority>,
    index: Arc<AuthIndex>,
    anonymous: AnonymousPolicy,
}

impl Authenticator {
    /// Accepts certificates that `certificates` verifies and tokens of `tokens`.
    pub fn new(
        certificates: Arc<dyn ClientCertVerifier>,
        tokens: Arc<TokenAuthority>,
        index: Arc<AuthIndex>,
        anonymous: AnonymousPolicy,
    ) -> Self {
        Self { certificates, tokens, index, anonymous }
    }

    /// Who sent a request: `peer` is the chain that the TLS peer showed (its key proven, the chain not yet verified),
    /// `now` Unix seconds. The token's header must not reach anybody behind: remove `authorization`.
    pub fn authenticate(
        &self,
        peer: &[CertificateDer<'_>],
        headers: &HeaderMap,
        path: &str,
        now: i64,
    ) -> Result<UserInfo, Unauthenticated> {
        let mut refused = None;
        if let Some((leaf, rest)) = peer.split_first() {
            match self.certificate(leaf, rest, now) {
                Ok(user) => return Ok(user),
                Err(err) => refused = Some(err),
            }
        }
        if let Some(token) = bearer(headers) {
            match self.token(&token, &[], now) {
                Ok(verified) => return Ok(verified.user),
                Err(err) => refused = Some(Unauthenticated::Token(err)),
            }
        }
        match refused {
            Some(err) => Err(err),
            None if self.anonymous.admits(path) => Ok(UserInfo::anonymous()),
            None => Err(Unauthenticated::Missing),
        }
    }

    /// Verifies a token for a TokenReview; no `audiences` means the API server's own.
    pub fn token(&self, token: &str, audiences: &[String], now: i64) -> Result<Verified, TokenError> {
        match self.tokens.verify(token, audiences, now, &self.index) {
            Err(TokenError::Foreign) => self.bootstrap_token(token, audiences, now),
            verified => verified,
        }
    }

    fn bootstrap_token(&self, token: &str, wanted: &[String], now: i64) -> Result<Verified, TokenError> {
        let (id, secret) = bootstrap_token::split(token).ok_or(TokenError::Foreign)?;
        let known = self.index.bootstrap_token(id).ok_or(TokenError::Foreign)?;
        let user = known.user(secret, now)?;
        // Such a token names no audience: it is for this server.
        let own = self.tokens.audiences();
        let audiences: Vec<String> =
            own.iter().filter(|it| wanted.is_empty() || wanted.contains(it)).cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience { token: own.to_vec(), wanted: wanted.to_vec() });
        }
        Ok(Verified { user, audiences, stale: false })
    }

    /// The authority behind tokens, which makes new ones.
    pub fn tokens(&self) -> &Arc<TokenAuthority> {
        &self.tokens
    }

    fn certificate(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<UserInfo, Unauthenticated> {
        let refuse = |reason: String| Unauthenticated::Certificate(reason);
        let seconds = std::time::Duration::from_secs(u64::try_from(now).unwrap_or_default());
        self.certificates
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(seconds))
            .map_err(|err| refuse(err.to_string()))?;
        user_of(leaf).ok_or_else(|| refuse("the subject has no common name".to_owned()))
    }
}

/// The user a certificate names: common name and organizations.
pub(super) fn user_of(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok().filter(|it| !it.is_empty())?;
    let groups = parsed.subject().iter_organization().filter_map(|it| it.as_str().ok().map(str::to_owned));
    Some(UserInfo::authenticated(name, groups))
}

/// The bearer token of a request; browsers' WebSockets carry it as a subprotocol.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .find_map(|it| it.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))
        .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
}
