//! What a name in the cluster's zone means. Pure.

use crate::source::Source;
use crate::views::{Endpoint, Port, Service, Slice};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The version of the DNS specification that is followed.
const DNS_VERSION: &str = "1.1.0";

/// The zone and what does not come from the API server.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) name: Name,
    /// Where this server answers.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: u32,
}

/// What there is to say.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// These records; the second list helps, and may be left out.
    Records(Vec<Record>, Vec<Record>),
    /// An alias: the records of its target belong to the answer.
    Alias(Box<Record>, Name),
    /// The name exists, but has no record of this kind.
    NoData,
    /// There is no such name.
    NoName,
    /// Not ours: others know.
    Elsewhere,
}

/// What a name in the zone stands for.
enum Subject {
    /// It has these records, of any kind.
    Has(Vec<RData>, Vec<Record>),
    Alias(Name),
    NoName,
}

impl Zone {
    /// Answers one question.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType, source: &impl Source) -> Answer {
        if !self.name.zone_of(name) {
            return match reverse(name) {
                Some(addr) => self.answer_reverse(name, kind, addr, source),
                None => Answer::Elsewhere,
            };
        }
        let below = usize::from(name.num_labels() - self.name.num_labels());
        let labels: Option<Vec<String>> =
            name.iter().take(below).map(|label| String::from_utf8(label.to_ascii_lowercase()).ok()).collect();
        let Some(labels) = labels else { return Answer::NoName };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match self.subject(&labels, kind, source) {
            Subject::NoName => Answer::NoName,
            Subject::Alias(target) => {
                let record = self.record(name.clone(), RData::CNAME(CNAME(target.clone())));
                if kind == RecordType::CNAME {
                    Answer::Records(vec![record], vec![])
                } else {
                    Answer::Alias(Box::new(record), target)
                }
            }
            Subject::Has(data, extra) => self.select(name, kind, data, extra),
        }
    }

    /// The zone's own record: the authority for a negative answer, which may be kept as long as it says.
    pub(crate) fn soa(&self) -> Record {
        let name = |label: &str| self.below(&[label]).unwrap_or_else(|| self.name.clone());
        // Nobody copies this zone: the serial number only has to be there.
        let server = self.below(&["ns", "dns"]).unwrap_or_else(|| self.name.clone());
        let soa = SOA::new(server, name("hostmaster"), 1, 7200, 1800, 86_400, self.ttl);
        self.record(self.name.clone(), RData::SOA(soa))
    }

    fn subject(&self, labels: &[&str], kind: RecordType, source: &impl Source) -> Subject {
        let empty = |exists: bool| if exists { Subject::Has(vec![], vec![]) } else { Subject::NoName };
        match labels {
            [] => {
                let server = self.below(&["ns", "dns"]).map(|name| RData::NS(NS(name)));
                Subject::Has(server.into_iter().chain([self.soa().data]).collect(), vec![])
            }
            ["dns-version"] => Subject::Has(vec![RData::TXT(TXT::new(vec![DNS_VERSION.to_owned()]))], vec![]),
            ["svc" | "pod" | "dns"] => empty(true),
            ["ns", "dns"] => Subject::Has(self.addresses.iter().copied().map(address).collect(), vec![]),
            [namespace, "svc" | "pod"] => empty(source.has_namespace(namespace)),
            [pod, namespace, "pod"] => match undashed(pod).filter(|_| source.has_namespace(namespace)) {
                Some(addr) => Subject::Has(vec![address(addr)], vec![]),
                None => Subject::NoName,
            },
            [rest @ .., service, namespace, "svc"] => match source.service(namespace, service) {
                Some(found) => self.service(rest, &found, kind, source),
                None => Subject::NoName,
            },
            _ => Subject::NoName,
        }
    }

    fn service(&self, rest: &[&str], service: &Service, kind: RecordType, source: &impl Source) -> Subject {
        if service.is_external() {
            return match (rest, Name::from_ascii(&service.spec.external_name)) {
                ([], Ok(mut target)) => {
                    target.set_fqdn(true);
                    Subject::Alias(target)
                }
                _ => Subject::NoName,
            };
        }
        let meta = &service.metadata;
        let slices = || source.slices(&meta.namespace, &meta.name);
        match rest {
            [] if service.is_headless() => {
                let slices = slices();
                let mut data = addresses(service, &slices);
                if data.is_empty() {
                    return Subject::NoName;
                }
                let (services, extra) = self.endpoint_services(service, &slices, None, kind);
                data.extend(services);
                Subject::Has(data, extra)
            }
            [] => {
                let (services, extra) = self.services(service, None, kind);
                Subject::Has(service.addresses().map(address).chain(services).collect(), extra)
            }
            [label] if label.starts_with('_') => Subject::NoName.or_exists(has_protocol(service, label)),
            [label] => {
                let slices = slices();
                let of_label =
                    endpoints(service, &slices).filter(|(_, it)| it.label().is_some_and(|own| own == *label));
                let data: Vec<RData> = of_label.filter_map(|(_, it)| it.address()).map(address).collect();
                if data.is_empty() { Subject::NoName } else { Subject::Has(unique(data), vec![]) }
            }
            [port, protocol] => {
                let wanted = Some((*port, *protocol));
                let (data, extra) = if service.is_headless() {
                    self.endpoint_services(service, &slices(), wanted, RecordType::SRV)
                } else {
                    self.services(service, wanted, RecordType::SRV)
                };
                if data.is_empty() { Subject::NoName } else { Subject::Has(data, extra) }
            }
            _ => Subject::NoName,
        }
    }

    /// SRV records of a service with cluster IPs: each leads to the service's own name.
    fn services(
        &self,
        service: &Service,
        wanted: Option<(&str, &str)>,
        kind: RecordType,
    ) -> (Vec<RData>, Vec<Record>) {
        let target = self.name_of(service, &[]).filter(|_| wants_services(kind));
        let Some(target) = target else { return (vec![], vec![]) };
        let ports: Vec<&Port> = service.spec.ports.iter().filter(|port| is_wanted(port, wanted)).collect();
        let weight = weight(ports.len());
        let data =
            ports.iter().map(|port| RData::SRV(SRV::new(0, weight, port.port, target.clone()))).collect();
        let extra = service.addresses().map(|addr| self.record(target.clone(), address(addr))).collect();
        (data, extra)
    }

    /// SRV records of a headless service: one for each port of each endpoint.
    fn endpoint_services(
        &self,
        service: &Service,
        slices: &[Arc<Slice>],
        wanted: Option<(&str, &str)>,
        kind: RecordType,
    ) -> (Vec<RData>, Vec<Record>) {
        let (mut found, mut extra) = (BTreeSet::new(), Vec::new());
        if !wants_services(kind) {
            return (vec![], vec![]);
        }
        for (slice, endpoint) in endpoints(service, slices) {
            let (Some(label), Some(addr)) = (endpoint.label(), endpoint.address()) else { continue };
            let ports: Vec<u16> =
                slice.ports.iter().filter(|it| is_wanted(it, wanted)).map(|it| it.port).collect();
            let Some(target) = self.name_of(service, &[&label]).filter(|_| !ports.is_empty()) else {
                continue;
            };
            let record = self.record(target.clone(), address(addr));
            if !extra.contains(&record) {
                extra.push(record);
            }
            found.extend(ports.into_iter().map(|port| (target.clone(), port)));
        }
        let weight = weight(found.len());
        let data =
            found.into_iter().map(|(target, port)| RData::SRV(SRV::new(0, weight, port, target))).collect();
        (data, extra)
    }

    fn answer_reverse(&self, name: &Name, kind: RecordType, addr: IpAddr, source: &impl Source) -> Answer {
        let mut targets = BTreeSet::new();
        if let Some(service) = source.service_at(addr) {
            targets.extend(self.name_of(&service, &[]));
        }
        for slice in source.slices_at(addr).iter().filter(|_| targets.is_empty()).collect::<Vec<_>>() {
            let owner =
                slice.service().and_then(|service| source.service(&slice.metadata.namespace, service));
            let Some(service) = owner.filter(|service| service.is_headless()) else { continue };
            let own =
                slice.endpoints.iter().filter(|it| it.address() == Some(addr) && is_published(&service, it));
            targets.extend(own.filter_map(|it| self.name_of(&service, &[&it.label()?])));
        }
        if targets.is_empty() {
            return Answer::Elsewhere;
        }
        self.select(name, kind, targets.into_iter().map(|target| RData::PTR(PTR(target))).collect(), vec![])
    }

    fn select(&self, name: &Name, kind: RecordType, data: Vec<RData>, extra: Vec<Record>) -> Answer {
        let chosen = data.into_iter().filter(|it| kind == RecordType::ANY || it.record_type() == kind);
        let records: Vec<Record> = chosen.map(|it| self.record(name.clone(), it)).collect();
        if records.is_empty() { Answer::NoData } else { Answer::Records(records, extra) }
    }

    fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.ttl, data)
    }

    fn name_of(&self, service: &Service, labels: &[&str]) -> Option<Name> {
        let meta = &service.metadata;
        self.below(&[labels, &[&meta.name, &meta.namespace, "svc"]].concat())
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?.append_domain(&self.name).ok()
    }
}

impl Subject {
    fn or_exists(self, exists: bool) -> Subject {
        if exists { Subject::Has(vec![], vec![]) } else { self }
    }
}

/// The endpoints that names are given to.
fn endpoints<'a>(
    service: &'a Service,
    slices: &'a [Arc<Slice>],
) -> impl Iterator<Item = (&'a Slice, &'a Endpoint)> {
    let all = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice.as_ref(), endpoint)));
    all.filter(|(_, endpoint)| is_published(service, endpoint))
}

fn is_published(service: &Service, endpoint: &Endpoint) -> bool {
    service.spec.publish_not_ready_addresses || endpoint.is_ready()
}

fn addresses(service: &Service, slices: &[Arc<Slice>]) -> Vec<RData> {
    unique(endpoints(service, slices).filter_map(|(_, it)| it.address()).map(address).collect())
}

/// The same endpoint may stand in two slices while it moves.
fn unique(data: Vec<RData>) -> Vec<RData> {
    let mut seen = Vec::with_capacity(data.len());
    for it in data {
        if !seen.contains(&it) {
            seen.push(it);
        }
    }
    seen
}

fn address(addr: IpAddr) -> RData {
    match addr {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn wants_services(kind: RecordType) -> bool {
    matches!(kind, RecordType::SRV | RecordType::ANY)
}

/// `_name._protocol` asks for one port; without, all are meant.
fn is_wanted(port: &Port, wanted: Option<(&str, &str)>) -> bool {
    wanted.is_none_or(|(name, protocol)| {
        !port.name.is_empty()
            && name.strip_prefix('_') == Some(port.name.as_str())
            && protocol.strip_prefix('_').is_some_and(|it| it.eq_ignore_ascii_case(protocol_of(port)))
    })
}

fn has_protocol(service: &Service, label: &str) -> bool {
    let named = service.spec.ports.iter().filter(|port| !port.name.is_empty());
    named.map(protocol_of).any(|it| label.trim_start_matches('_').eq_ignore_ascii_case(it))
}

fn protocol_of(port: &Port) -> &str {
    if port.protocol.is_empty() { "TCP" } else { &port.protocol }
}

/// All alike, and together about a hundred.
fn weight(count: usize) -> u16 {
    u16::try_from(100 / count.max(1)).unwrap_or(1).max(1)
}

fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4).ok();
    v4.or_else(|| label.replace('-', ":").parse().map(IpAddr::V6).ok())
}

/// The address that a name in the reverse zones stands for.
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Vec<String> =
        name.iter().rev().map(|it| String::from_utf8_lossy(it).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        ["arpa", "in-addr", rest @ ..] if rest.len() == 4 => rest.join(".").parse().map(IpAddr::V4).ok(),
        ["arpa", "ip6", rest @ ..] if rest.len() == 32 && rest.iter().all(|it| it.len() == 1) => {
            let groups: Vec<String> = rest.chunks(4).map(<[&str]>::concat).collect();
            groups.join(":").parse().map(IpAddr::V6).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
