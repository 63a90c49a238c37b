//! Which server a request goes to, and with which path.

use coracle_apimachinery::Status;
use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::api::Api;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use crate::http::info::Query;

/// What a path's segment must not hold as it is.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?');
/// What a path must not hold as it is.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// How to talk to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Bare TCP.
    Plain,
    /// TLS with whoever answers.
    Tls,
    /// TLS with a kubelet of the cluster.
    Kubelet,
}

/// A server, and a path on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub transport: Transport,
    pub host: String,
    pub port: u16,
    path: String,
    query: String,
}

impl Target {
    /// The path, encoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Path and query.
    pub fn uri(&self) -> Outcome<Uri> {
        let text =
            if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) };
        text.parse().map_err(|err| ApiError::bad_request(format!("{text:?} is no path: {err}")))
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The kubelet of the pod's node, at a path of these segments.
async fn kubelet_of(pod: &Value, segments: &[&str], query: String, api: &Api) -> Outcome<Target> {
    let node = text(pod, "/spec/nodeName");
    if node.is_empty() {
        let name = text(pod, "/metadata/name");
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let segments: Vec<String> =
        segments.iter().map(|it| utf8_percent_encode(it, SEGMENT).to_string()).collect();
    kubelet(api, node, None, format!("/{}", segments.join("/")), query).await
}

async fn kubelet(api: &Api, node: &str, port: Option<u16>, path: String, query: String) -> Outcome<Target> {
    let nodes = api.registry.core("nodes")?;
    let object = api.registry.value(nodes, "", node).await?.ok_or_else(|| nodes.not_found(node))?;
    let host = node_address(&object).ok_or_else(|| {
        ApiError::internal(format!(
            "no preferred addresses found; known addresses: {:?}",
            list(&object, "/status/addresses").map(|it| text(it, "/type")).collect::<Vec<_>>()
        ))
    })?;
    let own = object.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let own = own.and_then(|it| u16::try_from(it).ok()).filter(|it| *it != 0).unwrap_or(10250);
    Ok(Target { transport: Transport::Kubelet, host, port: port.unwrap_or(own), path, query })
}

/// The address at which to call a node: one that needs no name service, if it has one.
fn node_address(node: &Value) -> Option<String> {
    ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|kind| {
        let of_kind = |it: &&Value| text(it, "/type") == *kind;
        list(node, "/status/addresses").find(of_kind).map(|it| text(it, "/address").to_owned())
    })
}

/// The container that a request means: the named one, or the only one. `also` are kinds beside the app containers.
fn container<'a>(pod: &'a Value, asked: Option<&'a str>) -> Outcome<&'a str> {
    let names = |field: &str| list(pod, field).map(|it| text(it, "/name")).collect::<Vec<_>>();
    let (apps, inits, ephemerals) =
        (names("/spec/containers"), names("/spec/initContainers"), names("/spec/ephemeralContainers"));
    let pod_name = text(pod, "/metadata/name");
    if let Some(asked) = asked {
        if apps.iter().chain(&inits).chain(&ephemerals).any(|it| *it == asked) {
            return Ok(asked);
        }
        return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    match apps.as_slice() {
        [only] => Ok(only),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => {
            let mut words = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                apps.join(" ")
            );
            for (kind, names) in [("init", inits), ("ephemeral", ephemerals)] {
                if !names.is_empty() {
                    words.push_str(&format!(" or one of the {kind} containers: [{}]", names.join(" ")));
                }
            }
            Err(ApiError::bad_request(words))
        }
    }
}

/// A query of these pairs.
fn encoded<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Where a pod's log is.
pub(super) async fn pod_log(pod: &Value, query: &Query, api: &Api) -> Outcome<Target> {
    let container = container(pod, query.get("container"))?;
    let known = [
        "follow",
        "previous",
        "timestamps",
        "sinceSeconds",
        "sinceTime",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    let pairs = known.iter().filter_map(|name| query.get(name).map(|value| (*name, value)));
    let segments =
        ["containerLogs", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"), container];
    kubelet_of(pod, &segments, encoded(pairs), api).await
}

/// Where commands of a pod run; `kind` is `exec` or `attach`.
pub(super) async fn pod_command(pod: &Value, kind: &str, query: &Query, api: &Api) -> Outcome<Target> {
    let container = container(pod, query.get("container"))?;
    let mut pairs = Vec::new();
    for (theirs, ours) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(theirs) {
            pairs.push((ours, "1"));
        }
    }
    if kind == "exec" {
        pairs.extend(query.all("command").map(|it| ("command", it)));
        if !pairs.iter().any(|(name, _)| *name == "command") {
            return Err(ApiError::bad_request("you must specify a command for the container"));
        }
    }
    let segments = [kind, text(pod, "/metadata/namespace"), text(pod, "/metadata/name"), container];
    kubelet_of(pod, &segments, encoded(pairs), api).await
}

/// Where ports of a pod are forwarded.
pub(super) async fn pod_port_forward(pod: &Value, query: &Query, api: &Api) -> Outcome<Target> {
    let ports = query.all("ports").map(|it| ("port", it));
    let segments = ["portForward", text(pod, "/metadata/namespace"), text(pod, "/metadata/name")];
    kubelet_of(pod, &segments, encoded(ports), api).await
}

/// `[scheme:]name[:port]`.
fn split_name(name: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = name.split(':').collect();
    match *parts.as_slice() {
        [name] => Some(("", name, "")),
        [name, port] if !matches!(name, "http" | "https") => Some(("", name, port)),
        [scheme @ ("http" | "https"), name] => Some((scheme, name, "")),
        [scheme @ ("" | "http" | "https"), name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

fn name_of(call: &Call) -> Outcome<(&str, &str, &str)> {
    let name = &call.info.name;
    split_name(name).ok_or_else(|| ApiError::bad_request(format!("invalid name {name:?}")))
}

/// The path behind `proxy`, and the query as it came.
fn rest(call: &Call) -> (String, String) {
    let slash = if call.info.path.ends_with('/') && !call.info.rest.is_empty() { "/" } else { "" };
    let path = format!("/{}{slash}", utf8_percent_encode(&call.info.rest, PATH));
    (path, encoded(call.query.pairs()))
}

fn transport(scheme: &str) -> Transport {
    if scheme == "https" { Transport::Tls } else { Transport::Plain }
}

/// A pod's own server.
pub(super) async fn pod_proxy(api: &Api, call: &Call) -> Outcome<Target> {
    let (scheme, name, port) = name_of(call)?;
    let pods = api.registry.core("pods")?;
    let pod =
        api.registry.value(pods, &call.info.namespace, name).await?.ok_or_else(|| pods.not_found(name))?;
    let host = text(&pod, "/status/podIP").to_owned();
    if host.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let first = || {
        let ports = list(&pod, "/spec/containers").flat_map(|it| list(it, "/ports"));
        ports.filter_map(|it| it.get("containerPort")?.as_u64()).next().and_then(|it| u16::try_from(it).ok())
    };
    let port = if port.is_empty() {
        first().unwrap_or(80)
    } else {
        port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port:?}")))?
    };
    let (path, query) = rest(call);
    Ok(Target { transport: transport(scheme), host, port, path, query })
}

/// A node's kubelet, or another port of the node.
pub(super) async fn node_proxy(api: &Api, call: &Call) -> Outcome<Target> {
    let (scheme, name, port) = name_of(call)?;
    let (path, query) = rest(call);
    if port.is_empty() && scheme != "http" {
        return kubelet(api, name, None, path, query).await;
    }
    let port = match port {
        "" => None,
        port => Some(port.parse().map_err(|_| ApiError::bad_request(format!("invalid port {port:?}")))?),
    };
    let target = kubelet(api, name, port, path, query).await?;
    // Only the kubelet's own port is known to speak with a certificate of the cluster.
    if target.port == kubelet(api, name, None, String::new(), String::new()).await?.port && scheme != "http" {
        return Ok(target);
    }
    Ok(Target { transport: transport(scheme), ..target })
}

/// One of a service's ready endpoints.
pub(super) async fn service_proxy(api: &Api, call: &Call) -> Outcome<Target> {
    let (scheme, name, port) = name_of(call)?;
    let namespace = &call.info.namespace;
    let services = api.registry.core("services")?;
    let service =
        api.registry.value(services, namespace, name).await?.ok_or_else(|| services.not_found(name))?;
    let wanted = service_port(&service, port)
        .ok_or_else(|| Status::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let endpoints = api.registry.core("endpoints")?;
    let object = api.registry.value(endpoints, namespace, name).await?;
    let nobody = || Status::unavailable(format!("no endpoints available for service {name:?}"));
    let (host, port) = object.as_ref().and_then(|it| endpoint(it, &wanted)).ok_or_else(nobody)?;
    let (path, query) = rest(call);
    Ok(Target { transport: transport(scheme), host, port, path, query })
}

/// The name of the service's port that `asked` (a name, a number, or nothing) means.
fn service_port(service: &Value, asked: &str) -> Option<String> {
    let mut ports = list(service, "/spec/ports");
    let chosen = match asked {
        "" => ports.next(),
        asked => ports.find(|it| {
            text(it, "/name") == asked
                || it.get("port").and_then(Value::as_u64).map(|it| it.to_string()).as_deref() == Some(asked)
        }),
    };
    chosen.map(|it| text(it, "/name").to_owned())
}

/// Any ready address with the port of that name.
fn endpoint(endpoints: &Value, port: &str) -> Option<(String, u16)> {
    let mut found = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let number = list(subset, "/ports").find(|it| text(it, "/name") == port)?.get("port")?.as_u64()?;
        let number = u16::try_from(number).ok()?;
        found.extend(list(subset, "/addresses").map(|it| (text(it, "/ip").to_owned(), number)));
    }
    // Spread by the clock: fair enough for a debugging aid, and without state.
    let count = found.len();
    let turn = usize::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
    (count > 0).then(|| found.swap_remove(turn % count))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_may_have_a_scheme_and_a_port() {
        let check =
            |name: &str, want: Option<(&str, &str, &str)>| assert_eq!(split_name(name), want, "{name}");
        check("web", Some(("", "web", "")));
        check("web:80", Some(("", "web", "80")));
        check("web:http", Some(("", "web", "http")));
        check("https:web", Some(("https", "web", "")));
        check("https:web:443", Some(("https", "web", "443")));
        check(":web:80", Some(("", "web", "80")));
        check("ftp:web:80", None);
        check("a:b:c:d", None);
    }

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let pod = |names: &[&str]| {
            let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"metadata": {"name": "p"}, "spec": {"containers": containers, "initContainers": [{"name": "i"}]}})
        };
        let check = |names: &[&str], asked: Option<&str>, want: Result<&str, &str>| {
            let pod = pod(names);
            let got = container(&pod, asked).map_err(|err| err.status().message.clone());
            assert_eq!(got.as_deref().map_err(|it| it.as_str()), want, "{names:?} {asked:?}");
        };
        check(&["a"], None, Ok("a"));
        check(&["a", "b"], Some("b"), Ok("b"));
        check(&["a", "b"], Some("i"), Ok("i"));
        check(&["a"], Some("x"), Err("container x is not valid for pod p"));
        check(
            &["a", "b"],
            None,
            Err(
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
            ),
        );
    }

    #[test]
    fn a_service_is_reached_at_a_ready_endpoint_of_the_port() {
        let service =
            json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "adm", "port": 9000}]}});
        assert_eq!(service_port(&service, "").as_deref(), Some("web"));
        assert_eq!(service_port(&service, "9000").as_deref(), Some("adm"));
        assert_eq!(service_port(&service, "adm").as_deref(), Some("adm"));
        assert_eq!(service_port(&service, "x"), None);
        let ready = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"name": "adm", "port": 9001}]}]});
        assert_eq!(endpoint(&ready, "adm"), Some(("10.0.0.1".to_owned(), 9001)));
        assert_eq!(endpoint(&json!({}), "adm"), None);
    }

    #[test]
    fn a_node_is_called_by_address() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.1"},
        ]}});
        assert_eq!(node_address(&node).as_deref(), Some("192.0.2.1"));
        assert_eq!(node_address(&json!({})), None);
    }
}
