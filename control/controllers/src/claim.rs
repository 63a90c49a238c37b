//! Which objects an owner keeps, adopts and releases, by labels and controller reference.

use crate::views::{Pod, ReplicaSet};
use coracle_apimachinery::Selector;
use coracle_client::views::{Meta, OwnerRef};
use coracle_client::{CallError, Calls, Resource};
use serde::de::IgnoredAny;
use serde_json::json;
use std::sync::Arc;

/// The one who owns.
pub(crate) struct Claimer<'a> {
    pub(crate) reference: OwnerRef,
    pub(crate) selector: &'a Selector,
    pub(crate) terminating: bool,
}

/// What becomes of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

impl Claimer<'_> {
    /// What becomes of the object with this metadata.
    pub(crate) fn claim(&self, child: &Meta) -> Claim {
        let matches = self.selector.matches_map(&child.labels);
        match child.controller() {
            Some(owner) if owner.uid != self.reference.uid => Claim::Ignore,
            Some(_) if matches => Claim::Keep,
            Some(_) if self.terminating => Claim::Ignore,
            Some(_) => Claim::Release,
            None if matches && !self.terminating && !child.is_terminating() => Claim::Adopt,
            None => Claim::Ignore,
        }
    }

    /// The owner's children of `candidates`, after adopting and releasing.
    pub(crate) async fn take<T: HasMeta>(
        &self,
        calls: &Calls,
        resource: &Resource,
        candidates: Vec<Arc<T>>,
    ) -> Result<Vec<Arc<T>>, CallError> {
        let mut kept = Vec::new();
        for child in candidates {
            let meta = child.meta();
            let change = match self.claim(meta) {
                Claim::Keep => {
                    kept.push(child);
                    continue;
                }
                Claim::Ignore => continue,
                Claim::Adopt => {
                    let mut owners = meta.owner_references.clone();
                    owners.push(self.reference.clone());
                    owners
                }
                Claim::Release => {
                    let others = meta.owner_references.iter().filter(|it| it.uid != self.reference.uid);
                    others.cloned().collect()
                }
            };
            let adopted = change.iter().any(|owner| owner.uid == self.reference.uid);
            let path = resource.object(&meta.namespace, &meta.name);
            // The version makes sure that nobody else adopted it in between.
            let patch = json!({"metadata": {
                "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": change,
            }});
            match calls.merge::<IgnoredAny>(&path, &patch).await {
                Ok(_) if adopted => kept.push(child),
                Ok(_) => {}
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(kept)
    }
}

/// The reference by which `meta` controls its children.
pub(crate) fn controller_ref(api_version: &str, kind: &str, meta: &Meta) -> OwnerRef {
    OwnerRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// An object with metadata.
pub(crate) trait HasMeta {
    fn meta(&self) -> &Meta;
}

impl HasMeta for Pod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl HasMeta for ReplicaSet {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

/// What a child is found under in an index: its controller, or its namespace when it has none.
pub(crate) fn by_controller(meta: &Meta) -> Vec<String> {
    vec![meta.controller().map_or_else(|| orphans_of(&meta.namespace), |owner| owner.uid.clone())]
}

/// The index value of the children without a controller in `namespace`.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let check = |child: &str, terminating: bool, want: Claim| {
            let selector = Selector::parse("app=x").unwrap();
            let reference = OwnerRef { uid: "me".into(), ..OwnerRef::default() };
            let meta: Meta = serde_json::from_str(child).unwrap();
            let claimer = Claimer { reference, selector: &selector, terminating };
            assert_eq!(claimer.claim(&meta), want, "{child} terminating={terminating}");
        };
        let mine = r#"{"labels":{"app":"x"},"ownerReferences":[{"uid":"me","controller":true}]}"#;
        let strayed = r#"{"labels":{"app":"y"},"ownerReferences":[{"uid":"me","controller":true}]}"#;
        let others = r#"{"labels":{"app":"x"},"ownerReferences":[{"uid":"you","controller":true}]}"#;
        let orphan = r#"{"labels":{"app":"x"},"ownerReferences":[{"uid":"you"}]}"#;
        let dying = r#"{"labels":{"app":"x"},"deletionTimestamp":"2026-01-01T00:00:00Z"}"#;
        check(mine, false, Claim::Keep);
        check(mine, true, Claim::Keep);
        check(strayed, false, Claim::Release);
        check(strayed, true, Claim::Ignore);
        check(others, false, Claim::Ignore);
        check(orphan, false, Claim::Adopt);
        check(orphan, true, Claim::Ignore);
        check(dying, false, Claim::Ignore);
        check("{}", false, Claim::Ignore);
    }
}
