//! Where a probe or hook goes: ports by name, hosts, headers.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{HttpRequest, Scheme};

/// A port by number or by the name that the container gives it.
pub fn port_number(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|it| it.name.as_deref() == Some(name));
            match named {
                Some(it) => u16::try_from(it.container_port).ok(),
                None => name.parse().ok(),
            }
        }
    };
    number.filter(|it| *it > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => {
            format!("couldn't find port: {name:?} in container {:?}", container.name)
        }
    })
}

/// The request of an `httpGet`; to the pod's address when it names no host.
pub fn http_request(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
) -> Result<HttpRequest, String> {
    let host = action.host.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
    if host.is_empty() {
        return Err("the pod has no address yet".into());
    }
    let scheme = match action.scheme.as_deref() {
        Some(it) if it.eq_ignore_ascii_case("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let path = action.path.clone().unwrap_or_default();
    Ok(HttpRequest {
        scheme,
        host,
        port: port_number(&action.port, container)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: action.http_headers.iter().flatten().map(|it| (it.name.clone(), it.value.clone())).collect(),
    })
}
