//! Addresses and node ports of Services.
//!
//! What is taken follows from the Services themselves: a hook on their cache adds and removes, so nothing can leak. A
//! write claims what it needs before it is stored; a claim that is not kept is given back.

mod families; // which address families a Service has
mod pool; // free addresses of a range, free ports

use std::sync::{Arc, Mutex, MutexGuard};

use coracle_apimachinery::{FieldError, Path};
use serde_json::{Value, json};

use crate::api::Api;
use crate::error::{ApiError, Outcome};
use crate::registry::Resource;
use crate::value::{self, text};

pub use pool::{Cidr, CidrError};
use pool::{Pool, PortError};

/// What is taken, and by whom. Clones share it.
#[derive(Clone)]
pub struct ServiceAddresses {
    pool: Arc<Mutex<Pool>>,
}

/// What one write has taken; given back when dropped, unless kept.
pub struct Claim {
    pool: Arc<Mutex<Pool>>,
    owner: String,
    addresses: Vec<std::net::IpAddr>,
    ports: Vec<u16>,
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Claim {
    /// The write was stored.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.addresses.is_empty() && self.ports.is_empty() {
            return;
        }
        let mut pool = lock(&self.pool);
        for address in &self.addresses {
            pool.give_back(*address, &self.owner);
        }
        for port in &self.ports {
            pool.give_port_back(*port, &self.owner);
        }
    }
}

impl ServiceAddresses {
    /// Over these ranges, the primary family first.
    pub fn new(cidrs: Vec<Cidr>) -> Self {
        Self { pool: Arc::new(Mutex::new(Pool::new(cidrs))) }
    }

    /// A Service is there, changed, or gone (both as they were and are).
    pub fn changed(&self, key: &str, old: Option<&Value>, new: Option<&Value>) {
        let mut pool = lock(&self.pool);
        for address in old.into_iter().flat_map(addresses) {
            pool.give_back(address, key);
        }
        for port in old.into_iter().flat_map(node_ports) {
            pool.give_port_back(port, key);
        }
        for address in new.into_iter().flat_map(addresses) {
            pool.note(address, key);
        }
        for port in new.into_iter().flat_map(node_ports) {
            pool.note_port(port, key);
        }
    }

    /// The ranges.
    pub fn cidrs(&self) -> Vec<Cidr> {
        lock(&self.pool).cidrs().to_vec()
    }

    /// Gives a Service that is about to be written the addresses and ports it needs.
    pub async fn claim(&self, api: &Api, resource: &Resource, service: &mut Value) -> Outcome<Claim> {
        let owner = resource.key(value::namespace(service), value::name(service));
        let mut claim = Claim { pool: self.pool.clone(), owner, addresses: Vec::new(), ports: Vec::new() };
        if resource.info.group.is_empty() && resource.info.resource == "services" {
            api.feed().ensure(resource.cache()?).await?;
            api.feed().caught_up().await?;
            claim.fill(service).map_err(|errors| invalid(resource, service, &errors))?;
        }
        Ok(claim)
    }
}

fn invalid(resource: &Resource, service: &Value, errors: &[FieldError]) -> ApiError {
    coracle_apimachinery::Status::invalid("", resource.info.kind, value::name(service), errors).into()
}

impl Claim {
    fn fill(&mut self, service: &mut Value) -> Result<(), Vec<FieldError>> {
        let pool = self.pool.clone();
        let mut pool = lock(&pool);
        let families = families::settle(service, &pool)?;
        self.claim_addresses(&mut pool, service, &families)?;
        self.claim_ports(&mut pool, service)
    }

    fn claim_addresses(
        &mut self,
        pool: &mut Pool,
        service: &mut Value,
        families: &[families::Family],
    ) -> Result<(), Vec<FieldError>> {
        if !wants_address(service) {
            return Ok(());
        }
        let mut list: Vec<String> = strings(service, "/spec/clusterIPs");
        for (index, family) in families.iter().enumerate() {
            let wanted = list.get(index).cloned().unwrap_or_default();
            let taken = if wanted.is_empty() {
                pool.take_any(*family, &self.owner).map(|address| (address, true))
            } else {
                pool.take(&wanted, *family, &self.owner)
            };
            let (address, fresh) = taken.map_err(|why| {
                let path = Path::new("spec").child("clusterIPs");
                vec![FieldError::invalid(&path, json!(list), why)]
            })?;
            if fresh {
                self.addresses.push(address);
            }
            let shown = address.to_string();
            if index < list.len() { list[index] = shown } else { list.push(shown) }
        }
        list.truncate(families.len());
        let spec = value::child(service, "spec");
        spec.insert("clusterIP".to_owned(), list.first().cloned().unwrap_or_default().into());
        spec.insert("clusterIPs".to_owned(), json!(list));
        Ok(())
    }

    fn claim_ports(&mut self, pool: &mut Pool, service: &mut Value) -> Result<(), Vec<FieldError>> {
        if !wants_node_ports(service) {
            return Ok(());
        }
        let at = Path::new("spec").child("ports");
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        let mut used: Vec<(String, u16)> = Vec::new();
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let path = at.index(index).child("nodePort");
            let wanted = port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
            let protocol = text(port, "/protocol").to_owned();
            // One number may serve several protocols of one Service.
            let shared = wanted != 0 && used.iter().any(|(p, n)| i64::from(*n) == wanted && *p != protocol);
            let taken = if wanted == 0 {
                pool.take_any_port(&self.owner)
            } else {
                pool.take_port(wanted, &self.owner)
            };
            let (number, fresh) = match taken {
                Ok(taken) => taken,
                Err(PortError(why)) => return Err(vec![FieldError::invalid(&path, wanted, why)]),
            };
            if fresh && !shared {
                self.ports.push(number);
            }
            used.push((protocol, number));
            if let Some(map) = port.as_object_mut() {
                map.insert("nodePort".to_owned(), number.into());
            }
        }
        self.claim_health_port(pool, service)
    }

    fn claim_health_port(&mut self, pool: &mut Pool, service: &mut Value) -> Result<(), Vec<FieldError>> {
        let local = text(service, "/spec/externalTrafficPolicy") == "Local";
        if text(service, "/spec/type") != "LoadBalancer" || !local {
            return Ok(());
        }
        let wanted = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
        let taken =
            if wanted == 0 { pool.take_any_port(&self.owner) } else { pool.take_port(wanted, &self.owner) };
        let (number, fresh) = taken.map_err(|PortError(why)| {
            vec![FieldError::invalid(&Path::new("spec").child("healthCheckNodePort"), wanted, why)]
        })?;
        if fresh {
            self.ports.push(number);
        }
        value::child(service, "spec").insert("healthCheckNodePort".to_owned(), number.into());
        Ok(())
    }
}

fn wants_address(service: &Value) -> bool {
    text(service, "/spec/type") != "ExternalName" && text(service, "/spec/clusterIP") != "None"
}

fn wants_node_ports(service: &Value) -> bool {
    match text(service, "/spec/type") {
        "NodePort" => true,
        "LoadBalancer" => {
            service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false)
        }
        _ => false,
    }
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn addresses(service: &Value) -> impl Iterator<Item = std::net::IpAddr> {
    strings(service, "/spec/clusterIPs").into_iter().filter_map(|text| text.parse().ok())
}

fn node_ports(service: &Value) -> impl Iterator<Item = u16> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let own = ports.into_iter().flatten().filter_map(|port| port.get("nodePort")?.as_u64());
    let health = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64);
    own.chain(health).filter_map(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}
