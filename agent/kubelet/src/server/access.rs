//! Who calls, and may he: certificates of the client CA, tokens by TokenReview, rights by SubjectAccessReview.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::ServerDeps;
use super::answer::{Answer, text};
use super::cache::Cache;
use crate::config::ServerSettings;
use crate::report;

/// A caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Decides.
pub(super) struct Access {
    client: Option<kube::Client>,
    settings: ServerSettings,
    node: String,
    tokens: Cache<[u8; 32], Option<Caller>>,
    rights: Cache<(Caller, &'static str, &'static str), bool>,
}

impl Access {
    pub fn new(deps: &ServerDeps) -> Self {
        Self {
            client: deps.client.clone(),
            settings: deps.config.server.clone(),
            node: deps.config.node.name.clone(),
            tokens: Cache::new(),
            rights: Cache::new(),
        }
    }

    /// Lets a request in, or says why not.
    pub async fn check(
        &self,
        peer: Option<Caller>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<Caller, Answer> {
        let caller = match peer {
            Some(caller) => Some(caller),
            None => self.by_token(headers).await?,
        };
        let Some(caller) = caller.or_else(|| self.settings.anonymous.then(anonymous)) else {
            return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        if !self.settings.webhook_authorization {
            return Ok(caller);
        }
        let verb = verb(method);
        for subresource in subresources(path) {
            if self.may(&caller, verb, subresource).await? {
                return Ok(caller);
            }
        }
        let wanted = subresources(path).join(" or ");
        let words = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{wanted}])\n",
            caller.name
        );
        Err(text(StatusCode::FORBIDDEN, words))
    }

    /// The caller that a bearer token names; `None` without a token, 401 with a bad one.
    async fn by_token(&self, headers: &HeaderMap) -> Result<Option<Caller>, Answer> {
        let header = headers.get(http::header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let Some((scheme, token)) = header.and_then(|it| it.split_once(' ')) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case("bearer") || !self.settings.webhook_authentication {
            return Ok(None);
        }
        let refused = || text(StatusCode::UNAUTHORIZED, "Unauthorized");
        let mut key = [0; 32];
        key.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
        if let Some(known) = self.tokens.get(&key) {
            return known.map(Some).ok_or_else(refused);
        }
        let Some(client) = self.client.clone() else { return Err(refused()) };
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(client).create(&PostParams::default(), &review).await;
        let status = answer.map_err(|err| unavailable("review a token", &err))?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let caller = user.map(|user| Caller {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        self.tokens.put(key, caller.clone(), self.settings.authentication_ttl);
        caller.map(Some).ok_or_else(refused)
    }

    async fn may(
        &self,
        caller: &Caller,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Answer> {
        let key = (caller.clone(), verb, subresource);
        if let Some(known) = self.rights.get(&key) {
            return Ok(known);
        }
        let Some(client) = self.client.clone() else { return Ok(false) };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.name.clone()),
                uid: Some(caller.uid.clone()).filter(|it| !it.is_empty()),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()).filter(|it| !it.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(client).create(&PostParams::default(), &review).await;
        let allowed =
            answer.map_err(|err| unavailable("review access", &err))?.status.is_some_and(|it| it.allowed);
        let life = if allowed { self.settings.authorized_ttl } else { self.settings.unauthorized_ttl };
        self.rights.put(key, allowed, life);
        Ok(allowed)
    }
}

fn unavailable(what: &'static str, err: &kube::Error) -> Answer {
    tracing::warn!(error = %report(err), "cannot {what}");
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot {what}\n"))
}

fn anonymous() -> Caller {
    Caller {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
        ..Caller::default()
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Which subresources of `nodes` open a path: any of them does.
fn subresources(path: &str) -> &'static [&'static str] {
    let under =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match () {
        () if under("/stats") => &["stats"],
        () if under("/metrics") => &["metrics"],
        () if under("/logs") => &["log"],
        () if under("/checkpoint") => &["checkpoint"],
        () if under("/statusz") => &["statusz"],
        () if under("/pods") || under("/runningpods") => &["pods", "proxy"],
        () if under("/healthz") => &["healthz", "proxy"],
        () if under("/configz") || under("/flagz") => &["configz", "proxy"],
        () => &["proxy"],
    }
}

/// The caller whom a verified certificate names.
pub(super) fn user_of_certificate(der: &[u8]) -> Option<Caller> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = parsed.subject().iter_organization().filter_map(|it| it.as_str().ok());
    let mut groups: Vec<String> = organizations.map(str::to_owned).collect();
    groups.push("system:authenticated".to_owned());
    Some(Caller { name, groups, ..Caller::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_rights() {
        let check = |path: &str, want: &[&str]| assert_eq!(subresources(path), want, "{path}");
        check("/pods", &["pods", "proxy"]);
        check("/runningpods/", &["pods", "proxy"]);
        check("/metrics/resource", &["metrics"]);
        check("/metricsx", &["proxy"]);
        check("/stats/summary", &["stats"]);
        check("/logs/", &["log"]);
        check("/healthz/ping", &["healthz", "proxy"]);
        check("/configz", &["configz", "proxy"]);
        check("/exec/ns/p/c", &["proxy"]);
        check("/containerLogs/ns/p/c", &["proxy"]);
        check("/debug/pods/u/timeline", &["proxy"]);
    }
}
