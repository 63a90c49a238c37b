//! ServiceAccount: every pod runs as one and finds its token, the cluster's CA and its namespace in a volume.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Attributes, Operation, Rule};
use crate::api::Api;
use crate::auth::index::refers_to_objects;
use crate::error::Outcome;
use crate::value::{self, text};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and seven seconds: the request that lets the authority know a client that may not renew.
const SECONDS: i64 = 3607;

/// See the module.
pub struct ServiceAccount;

#[async_trait]
impl Rule for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(&self, api: &Api, at: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
        if at.operation != Operation::Create || !at.is("", "pods") {
            return Ok(());
        }
        if object.pointer("/metadata/annotations").and_then(|a| a.get(MIRROR)).is_some() {
            return check_mirror(at, object);
        }
        let spec = value::child(object, "spec");
        if spec.get("serviceAccountName").and_then(Value::as_str).is_none_or(str::is_empty) {
            let old = spec.get("serviceAccount").and_then(Value::as_str).filter(|name| !name.is_empty());
            let name = old.unwrap_or("default").to_owned();
            spec.insert("serviceAccountName".to_owned(), name.into());
        }
        let name = text(object, "/spec/serviceAccountName").to_owned();
        value::child(object, "spec").insert("serviceAccount".to_owned(), name.clone().into());
        let accounts = api.registry.core("serviceaccounts")?;
        let Some(account) = api.registry.value(accounts, at.namespace, &name).await? else {
            return Err(at.forbid(format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                at.namespace
            )));
        };
        if wants_token(object, &account) {
            mount_token(object);
        }
        let secrets =
            account.get("imagePullSecrets").and_then(Value::as_array).filter(|list| !list.is_empty());
        let spec = value::child(object, "spec");
        let own = spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if let (Some(secrets), false) = (secrets, own) {
            spec.insert("imagePullSecrets".to_owned(), json!(secrets));
        }
        Ok(())
    }
}

fn check_mirror(at: &Attributes<'_>, pod: &Value) -> Outcome<()> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(at.forbid("a mirror pod may not reference service accounts"));
    }
    if refers_to_objects(pod) {
        return Err(at.forbid("a mirror pod may not reference API objects"));
    }
    Ok(())
}

fn wants_token(pod: &Value, account: &Value) -> bool {
    let said = |value: Option<&Value>| value.and_then(Value::as_bool);
    said(pod.pointer("/spec/automountServiceAccountToken"))
        .or_else(|| said(account.get("automountServiceAccountToken")))
        .unwrap_or(true)
}

/// Adds the token volume and mounts it in every container that has nothing at its place.
fn mount_token(pod: &mut Value) {
    let existing = pod
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let name = existing
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", coracle_apimachinery::rand_suffix(5)));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| text(mount, "/mountPath") == MOUNT) {
                continue;
            }
            mounts.push(json!({ "name": name, "readOnly": true, "mountPath": MOUNT }));
            used = true;
        }
    }
    if existing.is_some() || !used {
        return;
    }
    let volumes = value::child(pod, "spec").entry("volumes").or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": SECONDS, "path": "token" } },
                { "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
                { "downwardAPI": { "items": [{
                    "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                }] } },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_finds_its_token_and_none_twice() {
        let mut pod = json!({ "spec": {
            "containers": [{ "name": "a" }, { "name": "b", "volumeMounts": [{ "name": "own", "mountPath": MOUNT }] }],
        } });
        mount_token(&mut pod);
        let again = {
            let mut p = pod.clone();
            mount_token(&mut p);
            p
        };
        assert_eq!(pod, again);
        assert_eq!(pod.pointer("/spec/volumes").unwrap().as_array().unwrap().len(), 1);
        assert_eq!(pod.pointer("/spec/containers/1/volumeMounts").unwrap().as_array().unwrap().len(), 1);
        let name = text(&pod, "/spec/volumes/0/name");
        assert_eq!(text(&pod, "/spec/containers/0/volumeMounts/0/name"), name);
        assert_eq!(name.len(), "kube-api-access-".len() + 5);
    }

    #[test]
    fn the_pod_decides_before_the_account() {
        let check = |pod: Value, account: Value, want: bool| assert_eq!(wants_token(&pod, &account), want);
        check(json!({}), json!({}), true);
        check(json!({}), json!({ "automountServiceAccountToken": false }), false);
        check(
            json!({ "spec": { "automountServiceAccountToken": true } }),
            json!({ "automountServiceAccountToken": false }),
            true,
        );
    }
}
