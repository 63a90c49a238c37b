//! Nodes with the pods on them, kept up to date change by change.

use crate::pod::{HostPort, Pod, Taint};
use crate::resources::{Listed, Resources};
use coracle_client::slim_view;
use coracle_client::views::Meta;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A node, reduced to what scheduling needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawNode")]
pub struct Node {
    pub(crate) metadata: Meta,
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
    pub(crate) allocatable: Resources,
    /// Image names, with their sizes.
    pub(crate) images: BTreeMap<String, i64>,
}

slim_view!(Node);

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNode {
    metadata: Meta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    allocatable: Listed,
    images: Vec<RawImage>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawImage {
    names: Vec<String>,
    size_bytes: i64,
}

impl From<RawNode> for Node {
    fn from(raw: RawNode) -> Self {
        let named = |image: RawImage| image.names.into_iter().map(move |name| (name, image.size_bytes));
        let mut metadata = raw.metadata;
        metadata.annotations.clear();
        Self {
            metadata,
            unschedulable: raw.spec.unschedulable,
            taints: raw.spec.taints,
            allocatable: Resources::of(&raw.status.allocatable),
            images: raw.status.images.into_iter().flat_map(named).collect(),
        }
    }
}

/// A node and the sum of what is on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    pub(crate) requested: Resources,
    pub(crate) weight: Resources,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
}

/// The cluster as the next decision sees it. A pod may arrive before its node and stays when the node leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    places: BTreeMap<String, Place>,
    /// Where each pod, by uid, is.
    whereabouts: HashMap<String, String>,
    /// On how many nodes each image is.
    image_nodes: HashMap<String, usize>,
}

impl Snapshot {
    /// Adds a node or takes over its new state.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let place = self.places.entry(node.metadata.name.clone()).or_default();
        let before = std::mem::replace(&mut place.node, Arc::clone(&node));
        for image in before.images.keys().filter(|image| !node.images.contains_key(*image)) {
            forget_image(&mut self.image_nodes, image);
        }
        for image in node.images.keys().filter(|image| !before.images.contains_key(*image)) {
            *self.image_nodes.entry(image.clone()).or_default() += 1;
        }
    }

    /// Removes a node; its pods are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(place) = self.places.get_mut(name) else { return };
        let before = std::mem::take(&mut place.node);
        if place.pods.is_empty() {
            self.places.remove(name);
        }
        for image in before.images.keys() {
            forget_image(&mut self.image_nodes, image);
        }
    }

    /// Adds a pod to the node it names, from wherever it was before.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        self.remove_pod(&pod.metadata.uid);
        self.whereabouts.insert(pod.metadata.uid.clone(), pod.node_name.clone());
        let place = self.places.entry(pod.node_name.clone()).or_default();
        place.requested.add(&pod.requests);
        place.weight.add(&pod.weight);
        place.ports.extend(pod.host_ports.iter().cloned());
        place.pods.insert(pod.metadata.uid.clone(), pod);
    }

    /// Removes a pod by its uid; true if it was there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(node) = self.whereabouts.remove(uid) else { return false };
        let Some(place) = self.places.get_mut(&node) else { return false };
        let Some(pod) = place.pods.remove(uid) else { return false };
        place.requested.subtract(&pod.requests);
        place.weight.subtract(&pod.weight);
        for port in &pod.host_ports {
            if let Some(index) = place.ports.iter().position(|it| it == port) {
                place.ports.swap_remove(index);
            }
        }
        if place.pods.is_empty() && place.node.metadata.name.is_empty() {
            self.places.remove(&node);
        }
        true
    }

    /// The nodes there are, by name.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.values().filter(|place| !place.node.metadata.name.is_empty())
    }

    /// On how many nodes an image is.
    pub(crate) fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// The node a pod is on.
    #[cfg(test)]
    pub(crate) fn node_of(&self, uid: &str) -> Option<&str> {
        self.whereabouts.get(uid).map(String::as_str)
    }
}

fn forget_image(image_nodes: &mut HashMap<String, usize>, image: &str) {
    if let Some(count) = image_nodes.get_mut(image) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            image_nodes.remove(image);
        }
    }
}
