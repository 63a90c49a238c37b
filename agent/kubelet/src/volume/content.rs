//! Volumes made of API content: configMap, secret, downwardAPI, projected.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::content_payload::{Items, Payload};
use super::kind::{Prepared, Request, VolumeType};
use super::mount_table::MountTable;
use super::{MountedVolume, VolumeError, atomic, empty_dir};
use crate::env::{PodFacts, field_value, resource_value};
use crate::objects::{ObjectError, TokenSpec};

const DEFAULT_MODE: i32 = 0o644;
/// How long a token lives when the volume does not say.
const TOKEN_SECONDS: i64 = 3600;

/// Content from the API, whichever of the four types it came by.
pub(super) struct Content {
    plugin: &'static str,
    /// Kept in memory: it is secret, or small.
    in_memory: bool,
    default_mode: i32,
    sources: Vec<VolumeProjection>,
}

impl Content {
    /// The content that a volume asks for; the single types are projections of one source.
    pub(super) fn of(volume: &Volume) -> Option<Self> {
        let mode = |it: Option<i32>| it.unwrap_or(DEFAULT_MODE);
        if let Some(it) = &volume.config_map {
            let source = serde_json::json!({"configMap": {"name": it.name, "items": it.items, "optional": it.optional}});
            return Some(Self::single("kubernetes.io/configmap", false, mode(it.default_mode), source));
        }
        if let Some(it) = &volume.secret {
            let source = serde_json::json!({"secret": {"name": it.secret_name, "items": it.items, "optional": it.optional}});
            return Some(Self::single("kubernetes.io/secret", true, mode(it.default_mode), source));
        }
        if let Some(it) = &volume.downward_api {
            let source = serde_json::json!({"downwardAPI": {"items": it.items}});
            return Some(Self::single("kubernetes.io/downward-api", true, mode(it.default_mode), source));
        }
        let it = volume.projected.as_ref()?;
        Some(Self {
            plugin: "kubernetes.io/projected",
            in_memory: true,
            default_mode: mode(it.default_mode),
            sources: it.sources.clone().unwrap_or_default(),
        })
    }

    fn single(plugin: &'static str, in_memory: bool, default_mode: i32, source: serde_json::Value) -> Self {
        let sources = serde_json::from_value(source).map(|it| vec![it]).unwrap_or_default();
        Self { plugin, in_memory, default_mode, sources }
    }

    async fn payload(&self, request: &Request<'_>) -> Result<Payload, VolumeError> {
        let mut payload = Payload::new(self.default_mode);
        for source in &self.sources {
            self.add(request, source, &mut payload).await?;
        }
        Ok(payload)
    }

    async fn add(
        &self,
        request: &Request<'_>,
        source: &VolumeProjection,
        payload: &mut Payload,
    ) -> Result<(), VolumeError> {
        let namespace = request.pod.metadata.namespace.as_deref().unwrap_or_default();
        let objects = &request.deps.objects;
        let failed = |cause| VolumeError::Object { volume: request.volume.name.clone(), cause };
        if let Some(it) = &source.config_map {
            let items =
                Items { list: it.items.as_deref(), optional: it.optional == Some(true), kind: "configmap" };
            if let Some(object) =
                present(objects.config_map(namespace, &it.name).await, it.optional).map_err(failed)?
            {
                let text = object.data.iter().flatten().map(|(key, value)| (key, value.as_bytes()));
                let bytes = object.binary_data.iter().flatten().map(|(key, value)| (key, value.0.as_slice()));
                payload.add_keys(text.chain(bytes), &items).map_err(|it| request.refused(it))?;
            }
        }
        if let Some(it) = &source.secret {
            let items =
                Items { list: it.items.as_deref(), optional: it.optional == Some(true), kind: "secret" };
            if let Some(object) =
                present(objects.secret(namespace, &it.name).await, it.optional).map_err(failed)?
            {
                let bytes = object.data.iter().flatten().map(|(key, value)| (key, value.0.as_slice()));
                payload.add_keys(bytes, &items).map_err(|it| request.refused(it))?;
            }
        }
        for item in source.downward_api.iter().flat_map(|it| it.items.iter().flatten()) {
            let text = downward(request, item).map_err(|it| request.refused(it))?;
            payload.add(&item.path, text.into_bytes(), item.mode);
        }
        if let Some(it) = &source.service_account_token {
            let token = objects.service_account_token(&token_spec(request.pod, it)).await.map_err(failed)?;
            payload.add_token(&it.path, token, run_as(request.pod), request.group(true).is_some());
        }
        let refused = source.cluster_trust_bundle.as_ref().map(|_| "clusterTrustBundle");
        match refused.or(source.pod_certificate.as_ref().map(|_| "podCertificate")) {
            Some(kind) => Err(VolumeError::Unsupported { volume: request.volume.name.clone(), kind }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl VolumeType for Content {
    async fn prepare(&self, request: &Request<'_>) -> Result<Prepared, VolumeError> {
        let Payload { files, renew_at, .. } = self.payload(request).await?;
        let (dir, group, in_memory) = (request.dir(self.plugin), request.group(true), self.in_memory);
        let size = Some(request.deps.allocatable.memory).filter(|it| *it > 0);
        let work = move |mounts: &MountTable| {
            empty_dir::make(&dir, in_memory.then_some((size, mounts)), None)?;
            atomic::write(&dir, &files, group)?;
            Ok(MountedVolume { host_path: dir, read_only: true, selinux_relabel: true })
        };
        Ok(Prepared { work: Box::new(work), renew_at })
    }
}

fn present<T>(found: Result<T, ObjectError>, optional: Option<bool>) -> Result<Option<T>, ObjectError> {
    match found {
        Err(err) if err.is_not_found() && optional == Some(true) => Ok(None),
        other => other.map(Some),
    }
}

fn downward(request: &Request<'_>, item: &DownwardAPIVolumeFile) -> Result<String, String> {
    if let Some(field) = &item.field_ref {
        return field_value(request.pod, &field.field_path, &PodFacts { host_ips: &[], pod_ips: &[] });
    }
    match &item.resource_field_ref {
        Some(selector) => resource_value(request.pod, selector, None, &request.deps.allocatable),
        None => Err(format!("item {} names neither a field nor a resource", item.path)),
    }
}

fn token_spec(pod: &Pod, source: &ServiceAccountTokenProjection) -> TokenSpec {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let account =
        pod.spec.as_ref().and_then(|it| it.service_account_name.clone()).filter(|it| !it.is_empty());
    TokenSpec {
        namespace: text(&pod.metadata.namespace),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        pod_name: text(&pod.metadata.name),
        pod_uid: text(&pod.metadata.uid),
        audience: text(&source.audience),
        expiration_seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

/// The one user as whom all containers run, if there is one.
fn run_as(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let outer = spec.security_context.as_ref().and_then(|it| it.run_as_user);
    let own = |it: Option<i64>| it.or(outer);
    let mut users = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|it| own(it.security_context.as_ref().and_then(|it| it.run_as_user)));
    let first = users.next()??;
    if users.all(|it| it == Some(first)) { u32::try_from(first).ok() } else { None }
}
