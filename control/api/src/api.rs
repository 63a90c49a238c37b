//! Everything a request needs, in one value that all requests share.

use std::borrow::Cow;
use std::sync::Arc;

use coracle_apimachinery::Status;
use coracle_schema::openapi::{self, OpenApi};
use tokio::sync::Semaphore;

use crate::admission::Chain;
use crate::auth::{Attributes, AuthIndex, Authenticator, Authorizer, TokenAuthority};
use crate::cache::{Feed, Object};
use crate::call::Call;
use crate::config::{ApiConfig, Settings};
use crate::error::Outcome;
use crate::http::connect::Connect;
use crate::http::paths::GIT_VERSION;
use crate::http::websocket::Sockets;
use crate::metrics::Metrics;
use crate::registry::{EventLease, Registry};
use crate::resources::RESOURCES;
use crate::services::ServiceAddresses;

/// Requests of clients outside this process that are worked on at once; upstream's two limits together.
const INFLIGHT: usize = 600;

/// The server's inside.
pub struct Api {
    /// What is served.
    pub registry: Registry,
    /// What writes must pass.
    pub admission: Chain,
    /// Who is calling.
    pub authenticator: Authenticator,
    /// What they may do.
    pub authorizer: Authorizer,
    /// What authorization knows of the cluster.
    pub auth_index: Arc<AuthIndex>,
    /// What carries exec, logs and proxies.
    pub connect: Option<Arc<dyn Connect>>,
    /// Watches and logs over WebSockets.
    pub sockets: Sockets,
    /// Service-account tokens.
    pub tokens: Arc<TokenAuthority>,
    /// Addresses and ports of Services.
    pub services: ServiceAddresses,
    /// What events hang on.
    pub event_lease: EventLease,
    /// Places for requests that are not long-running.
    pub places: Semaphore,
    /// OpenAPI documents.
    pub openapi: OpenApi,
    /// What is counted.
    pub metrics: Metrics,
    /// What was configured.
    pub config: Settings,
}

impl Api {
    /// The caches.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.registry.feed
    }
}

impl Api {
    /// Of a configuration; nothing runs yet.
    pub fn new(config: ApiConfig) -> Self {
        let registry = Registry::new(config.store);
        let auth_index = Arc::new(AuthIndex::default());
        let services = ServiceAddresses::new(config.service_cidrs.clone());
        let api = Self {
            admission: Chain::standard(),
            authenticator: Authenticator::new(
                config.client_certificates,
                config.tokens.clone(),
                auth_index.clone(),
                config.anonymous,
            ),
            authorizer: Authorizer::new(auth_index.clone()),
            auth_index,
            connect: config.connect,
            sockets: Sockets::default(),
            tokens: config.tokens,
            services,
            event_lease: EventLease::default(),
            places: Semaphore::new(INFLIGHT),
            openapi: OpenApi::new(GIT_VERSION, described()),
            metrics: Metrics::default(),
            config: Settings {
                service_cidrs: config.service_cidrs,
                cluster_domain: config.cluster_domain,
                advertise: config.advertise,
            },
            registry,
        };
        api.hook();
        api
    }

    /// Lets authorization and service addresses follow what is stored.
    fn hook(&self) {
        for resource in self.registry.all() {
            let Some(cache) = &resource.cache else { continue };
            let (group, plural) = (resource.info.group, resource.info.resource);
            if AuthIndex::wants(group, plural) {
                let (index, resource) = (self.auth_index.clone(), resource.clone());
                cache.on_change(Box::new(move |change| {
                    let (namespace, name) = change.place();
                    if !AuthIndex::concerns(resource.info.resource, namespace, name) {
                        return;
                    }
                    let new = change.new.as_ref().and_then(|object| resource.view(object).ok());
                    index.changed(resource.info.resource, namespace, name, new.as_ref());
                }));
            } else if group.is_empty() && plural == "services" {
                let (services, resource) = (self.services.clone(), resource.clone());
                cache.on_change(Box::new(move |change| {
                    let view =
                        |object: &Option<Arc<Object>>| object.as_ref().and_then(|o| resource.view(o).ok());
                    services.changed(&change.key, view(&change.old).as_ref(), view(&change.new).as_ref());
                }));
            }
        }
    }

    /// Whether the caller may do `verb` to what the request names; otherwise upstream's Forbidden. Some requests need a
    /// second verb beside their own.
    pub fn authorize_verb(&self, call: &Call, verb: &str) -> Outcome<()> {
        let info = &call.info;
        let attributes = Attributes {
            version: &info.version,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            field_selector: call.query.get("fieldSelector").unwrap_or_default(),
            ..Attributes::resource(&call.user, verb, &info.group, &info.resource)
        };
        let decision = self.authorizer.authorize(&attributes);
        if decision.is_allowed() {
            return Ok(());
        }
        let why = attributes.denial(decision.reason());
        Err(Status::forbidden(&info.group, &info.resource, &info.name, why).into())
    }

    /// Loads what must be known before the first request is answered.
    pub async fn warm_up(&self) -> Outcome<()> {
        for resource in self.registry.all() {
            let Some(cache) = &resource.cache else { continue };
            let (group, plural) = (resource.info.group, resource.info.resource);
            if AuthIndex::wants(group, plural)
                || (group.is_empty() && matches!(plural, "services" | "namespaces"))
            {
                self.feed().ensure(cache).await?;
            }
        }
        Ok(())
    }
}

/// Every resource and subresource, as OpenAPI needs to know it.
fn described() -> Vec<openapi::Resource> {
    let mut all = Vec::new();
    for info in RESOURCES {
        let of = |name: Cow<'static, str>, group, version, kind, verbs| openapi::Resource {
            group: info.group.into(),
            version: info.version.into(),
            name,
            kind_group: Cow::Borrowed(group),
            kind_version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            namespaced: info.namespaced,
            verbs: Cow::Borrowed(verbs),
        };
        all.push(of(info.resource.into(), info.group, info.version, info.kind, info.verbs));
        for sub in info.subs {
            let (group, version) =
                if sub.version.is_empty() { (info.group, info.version) } else { (sub.group, sub.version) };
            let name = format!("{}/{}", info.resource, sub.name).into();
            all.push(of(name, group, version, sub.kind, sub.verbs));
        }
    }
    all
}
