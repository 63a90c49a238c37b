//! Checks of probes and lifecycle handlers.

use coracle_apimachinery::{FieldError, Path, names};
use serde_json::Value;

use crate::kinds::tree::{list, text};
use crate::kinds::validate::Errors;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// All probes and handlers of a container.
pub fn all(errors: &mut Errors, path: &Path, container: &Value) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[field].is_object() {
            probe(errors, &path.child(field), &container[field], field);
        }
    }
    for field in ["postStart", "preStop"] {
        let handler_spec = &container["lifecycle"][field];
        if handler_spec.is_object() {
            handler(errors, &path.child("lifecycle").child(field), handler_spec);
        }
    }
}

fn probe(errors: &mut Errors, path: &Path, probe: &Value, field: &str) {
    handler(errors, path, probe);
    for number in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        errors.not_negative(&path.child(number), &probe[number]);
    }
    if let Some(seconds) = probe["terminationGracePeriodSeconds"].as_i64() {
        let path = path.child("terminationGracePeriodSeconds");
        if field == "readinessProbe" {
            errors.push(FieldError::invalid(&path, seconds, "must not be set for readinessProbes"));
        } else if seconds <= 0 {
            errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
        }
    }
    let successes = probe["successThreshold"].as_i64().unwrap_or(1);
    if field != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
}

fn handler(errors: &mut Errors, path: &Path, spec: &Value) {
    let mut given = 0;
    for kind in HANDLERS {
        if spec[kind].is_null() {
            continue;
        }
        given += 1;
        let (path, action) = (path.child(kind), &spec[kind]);
        if given > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" => {
                errors.required(&path.child("command"), &action["command"]);
            }
            "httpGet" => http(errors, &path, action),
            "tcpSocket" | "grpc" => port(errors, &path.child("port"), &action["port"]),
            _ => {}
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http(errors: &mut Errors, path: &Path, action: &Value) {
    errors.required(&path.child("path"), &action["path"]);
    port(errors, &path.child("port"), &action["port"]);
    errors.one_of(&path.child("scheme"), &action["scheme"], &["HTTP", "HTTPS"]);
    for (index, header) in list(&action["httpHeaders"]).iter().enumerate() {
        let name = text(&header["name"]);
        errors.invalid(
            &path.child("httpHeaders").index(index).child("name"),
            name,
            names::http_header_name(name),
        );
    }
}

/// A port by number or name.
fn port(errors: &mut Errors, path: &Path, port: &Value) {
    match port {
        Value::String(name) => errors.invalid(path, name, names::port_name(name)),
        number => port_number(errors, path, number.as_i64().unwrap_or(0)),
    }
}

/// The number of a port.
pub fn port_number(errors: &mut Errors, path: &Path, port: i64) {
    errors.0.extend(names::port_number(port).into_iter().map(|why| FieldError::invalid(path, port, why)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    fn check(field: &str, spec: Value, expected: &str) {
        let mut errors = Errors::default();
        let mut container = json!({"name": "a", "image": "x"});
        container[field] = spec;
        let mut pod = json!({"spec": {"containers": [container]}});
        super::super::defaults::pod(&mut pod);
        all(&mut errors, &Path::new("c"), &pod["spec"]["containers"][0]);
        assert_eq!(shown(&errors.0), expected);
    }

    #[test]
    fn probes() {
        check("livenessProbe", json!({"httpGet": {"port": 80}}), "");
        check("livenessProbe", json!({"tcpSocket": {"port": "http"}}), "");
        check("livenessProbe", json!({}), "c.livenessProbe: Required value: must specify a handler type");
        check(
            "readinessProbe",
            json!({"httpGet": {"port": 0}}),
            "c.readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        );
        check(
            "livenessProbe",
            json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
            "c.livenessProbe.successThreshold: Invalid value: 2: must be 1",
        );
        check("readinessProbe", json!({"exec": {"command": ["x"]}, "successThreshold": 2}), "");
        check("startupProbe", json!({"exec": {}}), "c.startupProbe.exec.command: Required value");
        check(
            "startupProbe",
            json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
            "c.startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        );
        check(
            "livenessProbe",
            json!({"exec": {"command": ["x"]}, "periodSeconds": -1}),
            "c.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        );
        check("lifecycle", json!({"preStop": {"sleep": {"seconds": 1}}}), "");
    }
}
