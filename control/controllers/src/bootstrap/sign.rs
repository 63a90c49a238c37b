//! The ConfigMap `cluster-info` carries a signature for every token: whoever holds the token knows by it that the
//! server and CA named there are the cluster's, without having met either.

use super::views::Token;
use crate::run::now;
use crate::shared::Context;
use crate::views::ConfigMap;
use crate::work::{self, Reconcile, Requeue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_client::{CallError, Calls, Endpoint, Informer, Key, Params, Resource, Store, WorkQueue};
use ring::hmac;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CONFIG_MAPS: Resource = Resource::core("configmaps");
const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

/// The signatures that the object should carry.
fn wanted(content: &str, tokens: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    tokens.map(|(id, secret)| (format!("{SIGNATURE}{id}"), signature(content, &id, &secret))).collect()
}

/// A JSON Web Signature with detached content.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let body = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{body}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

fn signatures(data: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let all = data.iter().filter(|(key, _)| key.starts_with(SIGNATURE));
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

struct Signer {
    calls: Calls,
    maps: Store<ConfigMap>,
    tokens: Store<Token>,
}

/// Starts the controller.
pub(crate) async fn start(context: &Context, tokens: &Informer<Token>) {
    let params = Params::<ConfigMap>::all().fields(format!("metadata.name={NAME}"));
    let endpoint = Endpoint::new(context.reader.clone(), &CONFIG_MAPS, NAMESPACE);
    let maps = Informer::start(endpoint, params, &context.tracker, context.token.clone());
    maps.synced().await;
    let queue = Arc::new(WorkQueue::new());
    let (for_maps, for_tokens) = (Arc::clone(&queue), Arc::clone(&queue));
    maps.on_change(move |_| for_maps.add(Key::new(NAMESPACE, NAME)));
    tokens.on_change(move |_| for_tokens.add(Key::new(NAMESPACE, NAME)));
    let controller = Signer { calls: context.calls.clone(), maps: maps.store(), tokens: tokens.store() };
    work::start(controller, &queue, 1, &context.tracker, &context.token);
}

impl Reconcile for Signer {
    const NAME: &'static str = "bootstrap-signer";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, CallError> {
        let Some(map) = self.maps.get(key) else { return Ok(Requeue::Done) };
        let Some(content) = map.data.get(CONTENT) else { return Ok(Requeue::Done) };
        let (tokens, now) = (self.tokens.list(), now());
        let wanted = wanted(content, tokens.iter().filter_map(|it| it.signing(now)));
        // A signature ends with its token, also when nobody removes that.
        let next = tokens.iter().filter_map(|it| it.expires()).filter(|at| *at > now).min();
        let wait = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        if signatures(&map.data) == wanted {
            return Ok(wait.into());
        }
        let path = CONFIG_MAPS.object(NAMESPACE, NAME);
        let written = self.calls.modify(&path, &path, |object| {
            // Signed again when it is seen, if it is another by now.
            if object["data"][CONTENT] != content.as_str() {
                return;
            }
            let data = object["data"].as_object_mut().map(std::mem::take).unwrap_or_default();
            let mut data: Map<String, Value> =
                data.into_iter().filter(|(key, _)| !key.starts_with(SIGNATURE)).collect();
            data.extend(wanted.into_iter().map(|(key, value)| (key, value.into())));
            object["data"] = Value::Object(data);
        });
        match written.await {
            Err(err) if err.is_not_found() => Ok(Requeue::Done),
            done => done.map(|()| wait.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_holders_proof() {
        let text = signature("hello", "abcdef", "0123456789abcdef");
        let (header, tag) = text.split_once("..").unwrap();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header, json!({"alg": "HS256", "kid": "abcdef"}));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let signed = format!("{}.{}", text.split_once("..").unwrap().0, URL_SAFE_NO_PAD.encode("hello"));
        hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap()).unwrap();
        assert_ne!(text, signature("hello!", "abcdef", "0123456789abcdef"));
    }
}
