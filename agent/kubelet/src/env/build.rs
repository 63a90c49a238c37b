//! The environment of one container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod};

use super::file::{self, FileError};
use super::services::service_variables;
use super::{PodFacts, expand, field_value, resource_value};
use crate::objects::{ObjectError, ObjectSource};
use crate::translate::{ConfigError, NodeAllocatable};
use crate::volume::PodVolumes;

/// What an environment is made from.
#[derive(Clone, Copy)]
pub struct EnvInputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// ConfigMaps, Secrets, Services.
    pub objects: &'a dyn ObjectSource,
    /// Addresses.
    pub facts: PodFacts<'a>,
    /// What the node gives.
    pub allocatable: &'a NodeAllocatable,
    /// The pod's volumes, for variables from files.
    pub volumes: &'a PodVolumes,
}

/// Variables by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// By name; a Secret's value need not be text.
    pub vars: BTreeMap<String, Vec<u8>>,
    /// Warning events: reason, message.
    pub warnings: Vec<(&'static str, String)>,
}

impl Environment {
    /// `text` with references to this environment's variables replaced.
    pub fn expand(&self, text: &str) -> String {
        let bytes = expand(text.as_bytes(), |name| self.vars.get(name).map(Vec::as_slice));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// envFrom first, then env over it in order, service variables where nothing else has their name.
pub async fn environment(inputs: EnvInputs<'_>) -> Result<Environment, ConfigError> {
    let mut env = Environment::default();
    let services = services(&inputs).await?;
    for source in inputs.container.env_from.iter().flatten() {
        add_all(&inputs, source, &mut env).await?;
    }
    for var in inputs.container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let known = |name: &str| env.vars.get(name).or_else(|| services.get(name)).map(Vec::as_slice);
                Some(expand(text.as_bytes(), known))
            }
            (_, Some(source)) => value_from(&inputs, source).await?,
            _ => Some(Vec::new()),
        };
        if let Some(value) = value {
            env.vars.insert(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        env.vars.entry(name).or_insert(value);
    }
    Ok(env)
}

/// The API server's own Service always, those of the pod's namespace unless it asked not to know them.
async fn services(inputs: &EnvInputs<'_>) -> Result<BTreeMap<String, Vec<u8>>, ConfigError> {
    let links = inputs.pod.spec.as_ref().and_then(|it| it.enable_service_links).unwrap_or(true);
    let own = namespace(inputs.pod);
    let namespaces = if links && own != "default" { vec!["default", own] } else { vec!["default"] };
    let mut services = inputs.objects.services(&namespaces).await.map_err(refused)?;
    services.retain(|it| {
        (it.namespace == "default" && it.name == "kubernetes") || (links && it.namespace == own)
    });
    Ok(service_variables(&services).into_iter().map(|(name, value)| (name, value.into_bytes())).collect())
}

async fn add_all(
    inputs: &EnvInputs<'_>,
    source: &EnvFromSource,
    env: &mut Environment,
) -> Result<(), ConfigError> {
    let own = namespace(inputs.pod);
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut invalid = Vec::new();
    let mut add = |key: &str, value: &[u8]| {
        let name = format!("{prefix}{key}");
        if is_name(&name) {
            env.vars.insert(name, value.to_vec());
        } else {
            invalid.push(name);
        }
    };
    let mut from = None;
    if let Some(wanted) = &source.config_map_ref {
        let found = inputs.objects.config_map(own, &wanted.name).await;
        if let Some(object) = optional(found, wanted.optional)? {
            object.data.iter().flatten().for_each(|(key, value)| add(key, value.as_bytes()));
            from = Some(("configMap", &wanted.name));
        }
    } else if let Some(wanted) = &source.secret_ref {
        let found = inputs.objects.secret(own, &wanted.name).await;
        if let Some(object) = optional(found, wanted.optional)? {
            object.data.iter().flatten().for_each(|(key, value)| add(key, &value.0));
            from = Some(("secret", &wanted.name));
        }
    }
    if let (Some((kind, name)), false) = (from, invalid.is_empty()) {
        invalid.sort();
        let message = format!(
            "Keys [{}] from the EnvFrom {kind} {own}/{name} were skipped since they are considered invalid environment \
             variable names.",
            invalid.join(", ")
        );
        env.warnings.push(("InvalidEnvironmentVariableNames", message));
    }
    Ok(())
}

async fn value_from(inputs: &EnvInputs<'_>, source: &EnvVarSource) -> Result<Option<Vec<u8>>, ConfigError> {
    let own = namespace(inputs.pod);
    if let Some(field) = &source.field_ref {
        let value =
            field_value(inputs.pod, &field.field_path, &inputs.facts).map_err(ConfigError::Refused)?;
        return Ok(Some(value.into_bytes()));
    }
    if let Some(selector) = &source.resource_field_ref {
        let value = resource_value(inputs.pod, selector, Some(inputs.container), inputs.allocatable)
            .map_err(ConfigError::Refused)?;
        return Ok(Some(value.into_bytes()));
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let found = inputs.objects.config_map(own, &wanted.name).await;
        let Some(object) = optional(found, wanted.optional)? else { return Ok(None) };
        let value = object.data.as_ref().and_then(|it| it.get(&wanted.key)).map(|it| it.clone().into_bytes());
        return key(value, wanted.optional, &wanted.key, || format!("ConfigMap {own}/{}", wanted.name));
    }
    if let Some(wanted) = &source.secret_key_ref {
        let found = inputs.objects.secret(own, &wanted.name).await;
        let Some(object) = optional(found, wanted.optional)? else { return Ok(None) };
        let value = object.data.as_ref().and_then(|it| it.get(&wanted.key)).map(|it| it.0.clone());
        return key(value, wanted.optional, &wanted.key, || format!("Secret {own}/{}", wanted.name));
    }
    if let Some(wanted) = &source.file_key_ref {
        return of_file(inputs, wanted).await;
    }
    Ok(Some(Vec::new()))
}

async fn of_file(inputs: &EnvInputs<'_>, wanted: &FileKeySelector) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(volume) = inputs.volumes.by_name.get(&wanted.volume_name) else {
        let message = format!("cannot find the volume {:?} referenced by FileKeyRef", wanted.volume_name);
        return Err(ConfigError::Refused(message));
    };
    let (folder, path, key) = (volume.host_path.clone(), wanted.path.clone(), wanted.key.clone());
    let read = tokio::task::spawn_blocking(move || file::read(&folder, &path, &key)).await;
    let read = read.map_err(|_| ConfigError::Refused("reading an env file was cut off".into()))?;
    match read {
        Ok(Some(value)) => Ok(Some(value.into_bytes())),
        Ok(None) | Err(FileError::Missing) if wanted.optional == Some(true) => Ok(None),
        Ok(None) => Err(ConfigError::Refused(format!(
            "environment variable key {:?} not found in file {:?}",
            wanted.key, wanted.path
        ))),
        Err(err) => {
            tracing::info!(volume = wanted.volume_name, path = wanted.path, error = %err, "env file of no use");
            Err(ConfigError::Refused("couldn't parse env file".into()))
        }
    }
}

fn key(
    value: Option<Vec<u8>>,
    optional: Option<bool>,
    key: &str,
    of: impl FnOnce() -> String,
) -> Result<Option<Vec<u8>>, ConfigError> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => Err(ConfigError::Refused(format!("couldn't find key {key} in {}", of()))),
    }
}

fn optional<T>(found: Result<T, ObjectError>, optional: Option<bool>) -> Result<Option<T>, ConfigError> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(err) if err.is_not_found() && optional == Some(true) => Ok(None),
        Err(err) => Err(refused(err)),
    }
}

fn refused(err: ObjectError) -> ConfigError {
    ConfigError::Refused(crate::report(&err))
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// Since v1.34 any printable ASCII but `=` makes a name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| (0x20..0x7f).contains(&it) && it != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::testing::Memory;
    use crate::objects::{ServicePortView, ServiceView};

    fn objects() -> Memory {
        let memory = Memory::default();
        memory.put_config_map(r#"{"metadata":{"namespace":"n","name":"cm"},"data":{"a":"1","b.c":"2"}}"#);
        memory
            .put_secret(r#"{"metadata":{"namespace":"n","name":"s"},"data":{"p":"c2VjcmV0","raw":"/w=="}}"#);
        for (namespace, name) in [("default", "kubernetes"), ("default", "other"), ("n", "web")] {
            memory.put_service(ServiceView {
                namespace: namespace.into(),
                name: name.into(),
                cluster_ip: "10.0.0.1".parse().unwrap(),
                ports: vec![ServicePortView { name: String::new(), protocol: "TCP".into(), port: 80 }],
            });
        }
        memory
    }

    async fn run(container: &str, links: bool) -> Result<Environment, ConfigError> {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"enableServiceLinks":{links},"containers":[{container}]}}}}"#
        ))
        .unwrap();
        let objects = objects();
        let inputs = EnvInputs {
            pod: &pod,
            container: &pod.spec.as_ref().unwrap().containers[0],
            objects: &objects,
            facts: PodFacts { host_ips: &[], pod_ips: &[] },
            allocatable: &NodeAllocatable::default(),
            volumes: &PodVolumes::default(),
        };
        environment(inputs).await
    }

    async fn check(container: &str, want: &str) {
        let env = run(container, false).await.unwrap();
        let got: Vec<String> = env
            .vars
            .iter()
            .filter(|(name, _)| !name.starts_with("KUBERNETES"))
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(got.join(" "), want, "{container}");
    }

    #[tokio::test]
    async fn every_source_has_its_place() {
        check(r#"{"name":"c"}"#, "").await;
        check(r#"{"name":"c","env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)-$(C)"},{"name":"C","value":"3"}]}"#, "A=1 B=1-$(C) C=3").await;
        check(r#"{"name":"c","env":[{"name":"H","value":"$(KUBERNETES_SERVICE_HOST)"}]}"#, "H=10.0.0.1")
            .await;
        check(
            r#"{"name":"c","env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}"#,
            "N=p",
        )
        .await;
        check(
            r#"{"name":"c","env":[{"name":"K","valueFrom":{"configMapKeyRef":{"name":"cm","key":"a"}}}]}"#,
            "K=1",
        )
        .await;
        check(
            r#"{"name":"c","env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"s","key":"p"}}}]}"#,
            "P=secret",
        )
        .await;
        check(r#"{"name":"c","envFrom":[{"prefix":"x_","configMapRef":{"name":"cm"}}],"env":[{"name":"x_a","value":"9"}]}"#, "x_a=9 x_b.c=2").await;
        check(r#"{"name":"c","env":[{"name":"K","valueFrom":{"configMapKeyRef":{"name":"cm","key":"z","optional":true}}}]}"#, "").await;
        check(r#"{"name":"c","envFrom":[{"secretRef":{"name":"zz","optional":true}}]}"#, "").await;
    }

    #[tokio::test]
    async fn bytes_of_a_secret_come_through_whole() {
        let env = run(r#"{"name":"c","envFrom":[{"secretRef":{"name":"s"}}]}"#, false).await.unwrap();
        assert_eq!(env.vars["raw"], [0xff]);
    }

    #[tokio::test]
    async fn services_of_the_namespace_are_linked_unless_refused() {
        let names = |env: &Environment| {
            env.vars.keys().filter(|it| it.ends_with("_HOST")).cloned().collect::<Vec<_>>().join(" ")
        };
        let linked = run(r#"{"name":"c"}"#, true).await.unwrap();
        assert_eq!(names(&linked), "KUBERNETES_SERVICE_HOST WEB_SERVICE_HOST");
        let alone = run(r#"{"name":"c"}"#, false).await.unwrap();
        assert_eq!(names(&alone), "KUBERNETES_SERVICE_HOST");
    }

    #[tokio::test]
    async fn what_is_missing_is_said_in_upstreams_words() {
        for (container, want) in [
            (r#"{"name":"c","envFrom":[{"configMapRef":{"name":"x"}}]}"#, r#"configmap "x" not found"#),
            (
                r#"{"name":"c","env":[{"name":"K","valueFrom":{"secretKeyRef":{"name":"x","key":"k"}}}]}"#,
                r#"secret "x" not found"#,
            ),
            (
                r#"{"name":"c","env":[{"name":"K","valueFrom":{"configMapKeyRef":{"name":"cm","key":"k"}}}]}"#,
                "couldn't find key k in ConfigMap n/cm",
            ),
            (
                r#"{"name":"c","env":[{"name":"K","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}"#,
                "couldn't find key k in Secret n/s",
            ),
        ] {
            let err = run(container, false).await.unwrap_err();
            assert_eq!((err.reason(), err.to_string().as_str()), ("CreateContainerConfigError", want));
        }
    }
}
