//! Service variables: `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, and the older link variables.

use std::net::{IpAddr, SocketAddr};

use crate::objects::ServiceView;

/// The variables of these services, in order.
pub(super) fn service_variables(services: &[ServiceView]) -> Vec<(String, String)> {
    let mut vars = Vec::new();
    for service in services {
        one(service, &mut vars);
    }
    vars
}

fn one(service: &ServiceView, vars: &mut Vec<(String, String)>) {
    let Some(first) = service.ports.first() else { return };
    let name = constant(&service.name);
    let ip = service.cluster_ip;
    vars.push((format!("{name}_SERVICE_HOST"), ip.to_string()));
    vars.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
    for port in service.ports.iter().filter(|it| !it.name.is_empty()) {
        vars.push((format!("{name}_SERVICE_PORT_{}", constant(&port.name)), port.port.to_string()));
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{}", join(ip, port.port));
        if index == 0 {
            vars.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        vars.push((prefix.clone(), url));
        vars.push((format!("{prefix}_PROTO"), lower));
        vars.push((format!("{prefix}_PORT"), port.port.to_string()));
        vars.push((format!("{prefix}_ADDR"), ip.to_string()));
    }
}

fn join(ip: IpAddr, port: i32) -> String {
    u16::try_from(port).map_or_else(|_| format!("{ip}:{port}"), |port| SocketAddr::new(ip, port).to_string())
}

fn constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::ServicePortView;

    #[test]
    fn every_port_has_its_variables() {
        let port = |name: &str, protocol: &str, port| ServicePortView {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            port,
        };
        let service = ServiceView {
            namespace: "n".into(),
            name: "my-web".into(),
            cluster_ip: "10.0.0.1".parse().unwrap(),
            ports: vec![port("http", "TCP", 80), port("d-n-s", "UDP", 53)],
        };
        let got: Vec<String> = service_variables(&[service])
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let want = "MY_WEB_SERVICE_HOST=10.0.0.1 MY_WEB_SERVICE_PORT=80 MY_WEB_SERVICE_PORT_HTTP=80 \
            MY_WEB_SERVICE_PORT_D_N_S=53 MY_WEB_PORT=tcp://10.0.0.1:80 MY_WEB_PORT_80_TCP=tcp://10.0.0.1:80 \
            MY_WEB_PORT_80_TCP_PROTO=tcp MY_WEB_PORT_80_TCP_PORT=80 MY_WEB_PORT_80_TCP_ADDR=10.0.0.1 \
            MY_WEB_PORT_53_UDP=udp://10.0.0.1:53 MY_WEB_PORT_53_UDP_PROTO=udp MY_WEB_PORT_53_UDP_PORT=53 \
            MY_WEB_PORT_53_UDP_ADDR=10.0.0.1";
        assert_eq!(got, want.split_whitespace().collect::<Vec<_>>());
    }
}
