//! Checks of services, endpoints and endpoint slices.

use coracle_apimachinery::{FieldError, Path, names};
use serde_json::{Value, json};

use crate::kinds::tree::{int, is_set, list, text};
use crate::kinds::validate::{self, Errors};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Longest time a client sticks to an endpoint.
const MOST_STICKY: i64 = 86_400;
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;

/// A new service.
pub fn create(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (path, spec) = (Path::new("spec"), &object["spec"]);
    let kind = text(&spec["type"]);
    let headless = text(&spec["clusterIP"]) == "None";
    if !is_set(&spec["ports"]) && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(&mut errors, &path, spec, kind, headless);
    errors.one_of(&path.child("type"), &spec["type"], &TYPES);
    ports(&mut errors, &path.child("ports"), spec, kind);
    validate::labels(&mut errors, &path.child("selector"), &spec["selector"]);
    errors.one_of(&path.child("sessionAffinity"), &spec["sessionAffinity"], &["ClientIP", "None"]);
    let sticky = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if let Some(seconds) = sticky.as_i64().filter(|seconds| !(1..=MOST_STICKY).contains(seconds)) {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        let why = format!("must be greater than 0 and less than {MOST_STICKY}");
        errors.push(FieldError::invalid(&path, seconds, why));
    }
    if headless || text(&spec["clusterIP"]).is_empty() {
        // No address to check.
    } else {
        let address = text(&spec["clusterIP"]);
        errors.invalid(&path.child("clusterIPs").index(0), address, names::ip(address));
    }
    for (index, address) in list(&spec["externalIPs"]).iter().enumerate() {
        errors.invalid(&path.child("externalIPs").index(index), text(address), names::ip(text(address)));
    }
    traffic(&mut errors, &path, spec, kind);
    errors.0
}

fn by_type(errors: &mut Errors, path: &Path, spec: &Value, kind: &str, headless: bool) {
    let first = path.child("clusterIPs").index(0);
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&first, "None", why));
        }
        "ExternalName" => {
            if is_set(&spec["clusterIP"]) {
                let why = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(&path.child("clusterIPs"), why));
            }
            let target = text(&spec["externalName"]).trim_end_matches('.');
            if target.is_empty() {
                errors.push(FieldError::required(&path.child("externalName"), ""));
            } else {
                errors.invalid(&path.child("externalName"), target, names::dns1123_subdomain(target));
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut Errors, path: &Path, spec: &Value, kind: &str) {
    let all = list(&spec["ports"]);
    for (index, port) in all.iter().enumerate() {
        let path = path.index(index);
        let before = &all[..index];
        let name = text(&port["name"]);
        if name.is_empty() {
            if all.len() > 1 {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
        } else {
            errors.invalid(&path.child("name"), name, names::dns1123_label(name));
            if before.iter().any(|other| text(&other["name"]) == name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        port_number(errors, &path.child("port"), int(&port["port"]));
        errors.one_of(&path.child("protocol"), &port["protocol"], &PROTOCOLS);
        match &port["targetPort"] {
            Value::String(name) => errors.invalid(&path.child("targetPort"), name, names::port_name(name)),
            Value::Null => {}
            number => port_number(errors, &path.child("targetPort"), int(number)),
        }
        let protocol = text(&port["protocol"]);
        if is_set(&port["appProtocol"]) {
            let app = text(&port["appProtocol"]);
            errors.invalid(&path.child("appProtocol"), app, names::qualified_name(app));
        }
        let twin = |other: &&Value| text(&other["protocol"]) == protocol && other["port"] == port["port"];
        if before.iter().any(|other| twin(&other)) {
            let shown = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": port["port"],
                "TargetPort": 0, "NodePort": 0});
            errors.push(FieldError::duplicate(&path, shown));
        }
        let node_port = int(&port["nodePort"]);
        if node_port == 0 {
            continue;
        }
        if matches!(kind, "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(&path.child("nodePort"), why));
        }
        let taken =
            |other: &&Value| int(&other["nodePort"]) == node_port && text(&other["protocol"]) == protocol;
        if before.iter().any(|other| taken(&other)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), node_port));
        }
    }
}

/// The number of a port.
pub fn port_number(errors: &mut Errors, path: &Path, port: i64) {
    errors.0.extend(names::port_number(port).into_iter().map(|why| FieldError::invalid(path, port, why)));
}

fn traffic(errors: &mut Errors, path: &Path, spec: &Value, kind: &str) {
    let outside =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && is_set(&spec["externalIPs"]));
    let policies = ["Cluster", "Local"];
    if is_set(&spec["externalTrafficPolicy"]) {
        let path = path.child("externalTrafficPolicy");
        if outside {
            errors.one_of(&path, &spec["externalTrafficPolicy"], &policies);
        } else {
            let why = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(&path, text(&spec["externalTrafficPolicy"]), why));
        }
    }
    if is_set(&spec["internalTrafficPolicy"]) {
        errors.one_of(&path.child("internalTrafficPolicy"), &spec["internalTrafficPolicy"], &policies);
    }
    if int(&spec["healthCheckNodePort"]) != 0
        && (kind != "LoadBalancer" || text(&spec["externalTrafficPolicy"]) != "Local")
    {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        let value = int(&spec["healthCheckNodePort"]);
        errors.push(FieldError::invalid(&path.child("healthCheckNodePort"), value, why));
    }
}

/// An update of a service: its address stays.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (spec, was) = (&new["spec"], &old["spec"]);
    let external = |spec: &Value| text(&spec["type"]) == "ExternalName";
    if !external(spec) && !external(was) && is_set(&was["clusterIP"]) && spec["clusterIP"] != was["clusterIP"]
    {
        let path = Path::new("spec").child("clusterIPs").index(0);
        let value = if is_set(&spec["clusterIP"]) { json!([spec["clusterIP"]]) } else { json!([]) };
        errors.push(FieldError::invalid(&path, value, "may not change once set"));
    }
    errors.0.extend(create(new));
    errors.0
}

/// Endpoints.
pub fn endpoints(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for (index, subset) in list(&object["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(index);
        if !is_set(&subset["addresses"]) && !is_set(&subset["notReadyAddresses"]) {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (at, address) in list(&subset[field]).iter().enumerate() {
                let path = path.child(field).index(at);
                errors.invalid(&path.child("ip"), text(&address["ip"]), names::ip(text(&address["ip"])));
            }
        }
        let ports = list(&subset["ports"]);
        for (at, port) in ports.iter().enumerate() {
            let path = path.child("ports").index(at);
            let name = text(&port["name"]);
            if !name.is_empty() {
                errors.invalid(&path.child("name"), name, names::dns1123_label(name));
            } else if ports.len() > 1 {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            port_number(&mut errors, &path.child("port"), int(&port["port"]));
            errors.one_of(&path.child("protocol"), &port["protocol"], &PROTOCOLS);
        }
    }
    errors.0
}

/// An endpoint slice.
pub fn slice(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let family = text(&object["addressType"]);
    let path = Path::new("addressType");
    if family.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        errors.one_of(&path, &object["addressType"], &["FQDN", "IPv4", "IPv6"]);
    }
    let all = list(&object["endpoints"]);
    if all.len() > MOST_ENDPOINTS {
        errors.push(FieldError::too_many(&Path::new("endpoints"), all.len(), MOST_ENDPOINTS));
        return errors.0;
    }
    for (index, endpoint) in all.iter().enumerate() {
        let path = Path::new("endpoints").index(index).child("addresses");
        let addresses = list(&endpoint["addresses"]);
        if addresses.is_empty() {
            errors.push(FieldError::required(&path, "must contain at least 1 address"));
        } else if addresses.len() > MOST_ADDRESSES {
            errors.push(FieldError::too_many(&path, addresses.len(), MOST_ADDRESSES));
        }
        for (at, address) in addresses.iter().enumerate() {
            slice_address(&mut errors, &path.index(at), text(address), family);
        }
    }
    let ports = list(&object["ports"]);
    for (index, port) in ports.iter().enumerate() {
        let path = Path::new("ports").index(index);
        let name = text(&port["name"]);
        if !name.is_empty() {
            errors.invalid(&path.child("name"), name, names::dns1123_label(name));
        }
        if ports[..index].iter().any(|other| text(&other["name"]) == name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if let Some(number) = port["port"].as_i64() {
            port_number(&mut errors, &path.child("port"), number);
        }
        errors.one_of(&path.child("protocol"), &port["protocol"], &PROTOCOLS);
    }
    errors.0
}

fn slice_address(errors: &mut Errors, path: &Path, address: &str, family: &str) {
    match family {
        "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
            errors.push(FieldError::invalid(path, address, "must be an IPv4 address"));
        }
        "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
            errors.push(FieldError::invalid(path, address, "must be an IPv6 address"));
        }
        "FQDN" => errors.invalid(path, address, names::dns1123_subdomain(address)),
        _ => {}
    }
}

/// An update of an endpoint slice.
pub fn slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(slice(new));
    errors.immutable(&Path::new("addressType"), &new["addressType"], &old["addressType"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;

    /// A good service with changes to its spec.
    fn service(changes: Value) -> Value {
        let mut object = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}});
        for (field, value) in changes.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        object
    }

    fn check(changes: Value, expected: &str) {
        assert_eq!(shown(&create(&service(changes))), expected);
    }

    #[test]
    fn services() {
        check(json!({}), "");
        check(json!({"ports": []}), "spec.ports: Required value");
        check(json!({"ports": [], "clusterIP": "None"}), "");
        check(
            json!({"type": "Bad"}),
            "spec.type: Unsupported value: \"Bad\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        );
        check(
            json!({"ports": [{"port": 0, "protocol": "TCP"}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        );
        check(
            json!({"ports": [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 80, "protocol": "TCP"}]}),
            "spec.ports[1]: Duplicate value: {\"AppProtocol\":null,\"Name\":\"\",\"NodePort\":0,\"Port\":80,\
             \"Protocol\":\"TCP\",\"TargetPort\":0}",
        );
        check(
            json!({"ports": [{"port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"}]}),
            "spec.ports[0].name: Required value",
        );
        check(
            json!({"ports": [{"port": 80, "nodePort": 30_000, "protocol": "TCP"}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        );
        check(
            json!({"type": "NodePort", "clusterIP": "None"}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        );
        check(
            json!({"type": "ExternalName", "clusterIP": "", "ports": [], "internalTrafficPolicy": null}),
            "spec.externalName: Required value",
        );
        check(
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        );
    }

    #[test]
    fn addresses_stay() {
        let old = service(json!({}));
        assert_eq!(shown(&update(&service(json!({})), &old)), "");
        assert_eq!(
            shown(&update(&service(json!({"clusterIP": "10.0.0.2"})), &old)),
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"
        );
    }

    #[test]
    fn slices() {
        let good = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}]});
        assert_eq!(shown(&slice(&good)), "");
        let bad = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["x"]}, {}],
            "ports": [{"name": "", "protocol": "TCP"}, {"name": "", "protocol": "TCP"}]});
        assert_eq!(
            shown(&slice(&bad)),
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be an IPv4 address\n\
             endpoints[1].addresses: Required value: must contain at least 1 address\n\
             ports[1].name: Duplicate value: \"\""
        );
        let errors = slice_update(&json!({"addressType": "IPv6"}), &good);
        assert_eq!(shown(&errors), "addressType: Invalid value: \"IPv6\": field is immutable");
    }

    #[test]
    fn old_endpoints() {
        assert_eq!(
            shown(&endpoints(&json!({"subsets": [{"ports": [{"port": 80, "protocol": "TCP"}]}]}))),
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"
        );
    }
}
