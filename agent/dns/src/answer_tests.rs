use super::*;
use serde_json::{Value, json};

/// A cluster in a list.
struct Fixed {
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<Slice>>,
}

impl Source for Fixed {
    fn has_namespace(&self, name: &str) -> bool {
        ["default", "kube-system"].contains(&name)
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services
            .iter()
            .find(|it| it.metadata.namespace == namespace && it.metadata.name == name)
            .cloned()
    }
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
        let of = |it: &&Arc<Slice>| it.metadata.namespace == namespace && it.service() == Some(service);
        self.slices.iter().filter(of).cloned().collect()
    }
    fn service_at(&self, addr: IpAddr) -> Option<Arc<Service>> {
        self.services.iter().find(|it| it.addresses().any(|own| own == addr)).cloned()
    }
    fn slices_at(&self, addr: IpAddr) -> Vec<Arc<Slice>> {
        self.slices
            .iter()
            .filter(|it| it.endpoints.iter().any(|own| own.address() == Some(addr)))
            .cloned()
            .collect()
    }
}

fn service(name: &str, spec: Value) -> Arc<Service> {
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
            .unwrap(),
    )
}

fn slice(service: &str, endpoints: Value) -> Arc<Slice> {
    let meta =
        json!({"name": service, "namespace": "default", "labels": {"kubernetes.io/service-name": service}});
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
    Arc::new(
        serde_json::from_value(json!({"metadata": meta, "endpoints": endpoints, "ports": ports})).unwrap(),
    )
}

fn cluster() -> Fixed {
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]);
    let headless = json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]});
    let mut unready = headless.clone();
    unready["publishNotReadyAddresses"] = true.into();
    Fixed {
        services: vec![
            service(
                "web",
                json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:96::5"], "ports": ports}),
            ),
            service("db", headless.clone()),
            service("early", unready),
            service("empty", headless),
            service("out", json!({"type": "ExternalName", "externalName": "Example.com"})),
            service("in", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local."})),
        ],
        slices: vec![
            slice(
                "db",
                json!([{"addresses": ["10.77.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.77.0.3"], "conditions": {}},
                {"addresses": ["10.77.0.4"], "hostname": "db-2", "conditions": {"ready": false}}]),
            ),
            slice("db", json!([{"addresses": ["10.77.0.3"], "conditions": {"ready": true}}])),
            slice("early", json!([{"addresses": ["10.77.0.7"], "conditions": {"ready": false}}])),
            slice("empty", Value::Null),
            slice("web", json!([{"addresses": ["10.77.0.9"], "hostname": "w"}])),
        ],
    }
}

fn ask(name: &str, kind: RecordType) -> String {
    let zone = Zone {
        name: Name::from_ascii("cluster.local.").unwrap(),
        addresses: vec!["10.96.0.10".parse().unwrap()],
        ttl: 5,
    };
    let text = |records: &[Record]| {
        let line = |record: &Record| {
            assert_eq!(record.ttl, 5);
            format!("{} {} {}", record.name, record.record_type(), record.data)
        };
        records.iter().map(line).collect::<Vec<_>>().join(", ")
    };
    match zone.answer(&Name::from_ascii(name).unwrap(), kind, &cluster()) {
        Answer::Records(records, extra) if extra.is_empty() => text(&records),
        Answer::Records(records, extra) => format!("{} + {}", text(&records), text(&extra)),
        Answer::Alias(record, target) => format!("{} -> {target}", text(&[*record])),
        Answer::NoData => "nodata".into(),
        Answer::NoName => "nxdomain".into(),
        Answer::Elsewhere => "elsewhere".into(),
    }
}

fn check(name: &str, kind: RecordType, wanted: &str) {
    assert_eq!(ask(name, kind), wanted, "{name} {kind}");
}

#[test]
fn services_with_cluster_ips() {
    use RecordType::{A, AAAA, MX, SRV};
    check("web.default.svc.cluster.local.", A, "web.default.svc.cluster.local. A 10.96.0.5");
    check("WEB.Default.svc.CLUSTER.local.", A, "WEB.Default.svc.CLUSTER.local. A 10.96.0.5");
    check("web.default.svc.cluster.local.", AAAA, "web.default.svc.cluster.local. AAAA fd00:96::5");
    check("web.default.svc.cluster.local.", MX, "nodata");
    check("gone.default.svc.cluster.local.", A, "nxdomain");
    check("web.gone.svc.cluster.local.", A, "nxdomain");
    let extra = "web.default.svc.cluster.local. A 10.96.0.5, web.default.svc.cluster.local. AAAA fd00:96::5";
    let srv = "_http._tcp.web.default.svc.cluster.local.";
    check(srv, SRV, &format!("{srv} SRV 0 100 80 web.default.svc.cluster.local. + {extra}"));
    let udp = "_dns._udp.web.default.svc.cluster.local.";
    check(udp, SRV, &format!("{udp} SRV 0 100 53 web.default.svc.cluster.local. + {extra}"));
    check(srv, A, "nodata");
    check("_http._udp.web.default.svc.cluster.local.", SRV, "nxdomain");
    check("_tcp.web.default.svc.cluster.local.", SRV, "nodata");
    check("_sctp.web.default.svc.cluster.local.", SRV, "nxdomain");
    check("w.web.default.svc.cluster.local.", A, "w.web.default.svc.cluster.local. A 10.77.0.9");
}

#[test]
fn headless_services() {
    use RecordType::{A, AAAA, SRV};
    let db = "db.default.svc.cluster.local.";
    check(db, A, &format!("{db} A 10.77.0.2, {db} A 10.77.0.3"));
    check(db, AAAA, "nodata");
    check(&format!("db-0.{db}"), A, &format!("db-0.{db} A 10.77.0.2"));
    check(&format!("10-77-0-3.{db}"), A, &format!("10-77-0-3.{db} A 10.77.0.3"));
    check(&format!("db-2.{db}"), A, "nxdomain");
    check("early.default.svc.cluster.local.", A, "early.default.svc.cluster.local. A 10.77.0.7");
    check("empty.default.svc.cluster.local.", A, "nxdomain");
    let srv = format!("_http._tcp.{db}");
    let wanted = format!(
        "{srv} SRV 0 50 8080 10-77-0-3.{db}, {srv} SRV 0 50 8080 db-0.{db} + db-0.{db} A 10.77.0.2, 10-77-0-3.{db} A 10.77.0.3"
    );
    check(&srv, SRV, &wanted);
}

#[test]
fn aliases_pods_and_the_zone_itself() {
    use RecordType::{A, CNAME, NS, SOA, TXT};
    let out = "out.default.svc.cluster.local.";
    check(out, A, &format!("{out} CNAME Example.com. -> Example.com."));
    check(out, CNAME, &format!("{out} CNAME Example.com."));
    let pod = "10-77-0-2.default.pod.cluster.local.";
    check(pod, A, &format!("{pod} A 10.77.0.2"));
    check(
        "fd00-77--2.default.pod.cluster.local.",
        RecordType::AAAA,
        "fd00-77--2.default.pod.cluster.local. AAAA fd00:77::2",
    );
    check("10-77-0-2.gone.pod.cluster.local.", A, "nxdomain");
    check("x.default.pod.cluster.local.", A, "nxdomain");
    check("dns-version.cluster.local.", TXT, "dns-version.cluster.local. TXT 1.1.0");
    for name in [
        "cluster.local.",
        "svc.cluster.local.",
        "default.svc.cluster.local.",
        "kube-system.pod.cluster.local.",
    ] {
        check(name, A, "nodata");
    }
    check("gone.svc.cluster.local.", A, "nxdomain");
    check("google.cluster.local.", A, "nxdomain");
    check("cluster.local.", NS, "cluster.local. NS ns.dns.cluster.local.");
    check("ns.dns.cluster.local.", A, "ns.dns.cluster.local. A 10.96.0.10");
    assert!(
        ask("cluster.local.", SOA)
            .starts_with("cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local.")
    );
    check("example.com.", A, "elsewhere");
    check("notcluster.local.", A, "elsewhere");
}

#[test]
fn names_of_addresses() {
    use RecordType::{A, PTR};
    let ptr = |name: &str, target: &str| check(name, PTR, &format!("{name} PTR {target}"));
    ptr("5.0.96.10.in-addr.arpa.", "web.default.svc.cluster.local.");
    ptr("2.0.77.10.in-addr.arpa.", "db-0.db.default.svc.cluster.local.");
    ptr("3.0.77.10.in-addr.arpa.", "10-77-0-3.db.default.svc.cluster.local.");
    ptr(
        "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.",
        "web.default.svc.cluster.local.",
    );
    check("5.0.96.10.in-addr.arpa.", A, "nodata");
    check("4.0.77.10.in-addr.arpa.", PTR, "elsewhere");
    check("9.0.77.10.in-addr.arpa.", PTR, "elsewhere");
    check("96.10.in-addr.arpa.", PTR, "elsewhere");
}
