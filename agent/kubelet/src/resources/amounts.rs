//! A container's or pod's amounts.

use std::collections::BTreeMap;

use coracle_apimachinery::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::is_sidecar;

/// Amounts by resource name; cpu in thousandths, all else in units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// Reads a resource list. Text that is no quantity was refused by the API server; here it counts as absent.
    pub fn of(list: Option<&BTreeMap<String, ApiQuantity>>) -> Self {
        let read = |(name, quantity): (&String, &ApiQuantity)| {
            let quantity = Quantity::parse(&quantity.0).ok()?;
            let value = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            Some((name.clone(), value))
        };
        Self(list.into_iter().flatten().filter_map(read).collect())
    }

    /// The amount of a resource, if one is given.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// Thousandths of a core; 0 when not given.
    pub fn cpu_milli(&self) -> i64 {
        self.get("cpu").unwrap_or(0)
    }

    /// Bytes of memory; 0 when not given.
    pub fn memory(&self) -> i64 {
        self.get("memory").unwrap_or(0)
    }

    /// Every resource with its amount.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }

    fn replace_by(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(name, amount)| (name.clone(), *amount)));
    }
}

/// A container's requests; what it only limits it requests whole, as the API server defaults it.
pub fn container_requests(container: &Container) -> Amounts {
    let Some(resources) = &container.resources else { return Amounts::default() };
    let mut amounts = Amounts::of(resources.limits.as_ref());
    amounts.replace_by(&Amounts::of(resources.requests.as_ref()));
    amounts
}

/// A container's limits.
pub fn container_limits(container: &Container) -> Amounts {
    Amounts::of(container.resources.as_ref().and_then(|it| it.limits.as_ref()))
}

/// What the whole pod requests, its overhead included.
pub fn pod_requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut total = aggregate(pod, container_requests);
    if let Some(own) = &spec.resources {
        total.replace_by(&Amounts::of(own.requests.as_ref()));
    }
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

/// What the whole pod is limited to, its overhead included.
pub fn pod_limits(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut total = aggregate(pod, container_limits);
    if let Some(own) = &spec.resources {
        total.replace_by(&Amounts::of(own.limits.as_ref()));
    }
    for (name, amount) in Amounts::of(spec.overhead.as_ref()).0 {
        if let Some(limit) = total.0.get_mut(&name) {
            *limit += amount;
        }
    }
    total
}

/// App containers run together and beside the sidecars; each init container runs alone, beside the sidecars before it.
fn aggregate(pod: &Pod, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let (mut together, mut sidecars, mut peak) = (Amounts::default(), Amounts::default(), Amounts::default());
    for container in &spec.containers {
        together.add(&of(container));
    }
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            together.add(&own);
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&own);
            peak.raise_to(&now);
        }
    }
    together.raise_to(&peak);
    together
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Pod {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_pods_request_is_the_greater_of_running_and_initialising() {
        let pod = pod(r#"{"spec":{
            "initContainers":[
              {"name":"i","resources":{"requests":{"cpu":"2","memory":"1Mi"}}},
              {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"100m","memory":"10Mi"}}}],
            "containers":[
              {"name":"a","resources":{"requests":{"cpu":"500m"},"limits":{"memory":"64Mi"}}},
              {"name":"b","resources":{"requests":{"cpu":"250m","memory":"1Mi"}}}],
            "overhead":{"cpu":"10m"}}}"#);
        let requests = pod_requests(&pod);
        assert_eq!(requests.cpu_milli(), 2010);
        assert_eq!(requests.memory(), 75 << 20);
        assert_eq!(pod_limits(&pod).memory(), 64 << 20);
        assert_eq!(pod_limits(&pod).get("cpu"), None);
    }
}
