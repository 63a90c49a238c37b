//! Tables of services, endpoints and endpoint slices.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::Column;
use crate::kinds::print::{
    AGE, NAME, NONE, age, col, host_port, labels, load_balancer, name, or, or_none, some, wide,
};
use crate::kinds::tree::{int, list, text};

/// Columns of services.
pub const SERVICE: &[Column] =
    &[NAME, col("Type"), col("Cluster-IP"), col("External-IP"), col("Port(s)"), AGE, wide("Selector")];
/// Columns of endpoints.
pub const ENDPOINTS: &[Column] = &[NAME, col("Endpoints"), AGE];
/// Columns of endpoint slices.
pub const SLICE: &[Column] = &[NAME, col("AddressType"), col("Ports"), col("Endpoints"), AGE];

/// Cells of a service.
pub fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let ports: Vec<_> = list(&spec["ports"]).iter().map(port).collect();
    vec![
        name(object),
        text(&spec["type"]).into(),
        or_none(&spec["clusterIP"]),
        external(object).into(),
        or(&ports.join(","), NONE),
        age(object, now),
        labels(&spec["selector"]),
    ]
}

fn port(port: &Value) -> String {
    let (number, protocol) = (int(&port["port"]), text(&port["protocol"]));
    match int(&port["nodePort"]) {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external(object: &Value) -> String {
    let spec = &object["spec"];
    let given: Vec<_> = list(&spec["externalIPs"]).iter().map(text).collect();
    let given = given.join(",");
    let balancer = load_balancer(&object["status"]);
    match (text(&spec["type"]), balancer.as_str(), given.as_str()) {
        ("ExternalName", ..) => text(&spec["externalName"]).to_owned(),
        ("LoadBalancer", "", "") => "<pending>".to_owned(),
        ("LoadBalancer", balancer, "") => balancer.to_owned(),
        ("LoadBalancer", "", given) => given.to_owned(),
        ("LoadBalancer", balancer, given) => format!("{balancer},{given}"),
        (_, _, "") => NONE.to_owned(),
        (_, _, given) => given.to_owned(),
    }
}

/// Cells of endpoints.
pub fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        let addresses = || list(&subset["addresses"]).iter().map(|address| text(&address["ip"]));
        match list(&subset["ports"]) {
            [] => all.extend(addresses().map(str::to_owned)),
            ports => all.extend(ports.iter().flat_map(|port| {
                let number = int(&port["port"]);
                addresses().map(move |address| host_port(address, number))
            })),
        }
    }
    vec![name(object), or(&some(&all, 3), NONE), age(object, now)]
}

/// Cells of an endpoint slice.
pub fn slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (port["port"].as_i64(), text(&port["name"])) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    };
    let ports: Vec<_> = list(&object["ports"]).iter().map(port).collect();
    let addresses: Vec<_> = list(&object["endpoints"])
        .iter()
        .flat_map(|endpoint| list(&endpoint["addresses"]))
        .map(|address| text(address).to_owned())
        .collect();
    let unset = |text: String| or(&text, "<unset>");
    vec![
        name(object),
        text(&object["addressType"]).into(),
        unset(some(&ports, 3)),
        unset(some(&addresses, 3)),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(object: Value, cells: fn(&Value, Timestamp) -> Vec<Value>, expected: &str) {
        let cells = cells(&object, Timestamp::UNIX_EPOCH);
        let shown: Vec<_> = cells.iter().map(text).collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn rows() {
        check(
            json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30_080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            service,
            "s NodePort 10.0.0.1 <none> 80:30080/TCP,53/UDP <unknown> a=b",
        );
        check(
            json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer"}}),
            service,
            "s LoadBalancer <none> <pending> <none> <unknown> <none>",
        );
        check(
            json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "x.y"}}),
            service,
            "s ExternalName <none> x.y <none> <unknown> <none>",
        );
        let ips = |n: usize| (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect::<Vec<_>>();
        check(
            json!({"metadata": {"name": "e"}, "subsets": [{"addresses": ips(5), "ports": [{"port": 80}]}]}),
            endpoints,
            "e 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more... <unknown>",
        );
        check(
            json!({"metadata": {"name": "e"}, "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": ["10.0.0.1"]}]}),
            slice,
            "e IPv4 80 10.0.0.1 <unknown>",
        );
        check(
            json!({"metadata": {"name": "e"}, "addressType": "IPv6"}),
            slice,
            "e IPv6 <unset> <unset> <unknown>",
        );
    }
}
