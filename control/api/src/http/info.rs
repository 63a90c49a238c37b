//! What a request asks for, read from its method, path and query: the words that authorization and dispatch speak.

use http::Method;

/// Query parameters, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of a URL's query string.
    pub fn parse(raw: Option<&str>) -> Self {
        Self(raw.map(|raw| form_urlencoded::parse(raw.as_bytes()).into_owned().collect()).unwrap_or_default())
    }

    /// The first value of a parameter; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All of them, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// A boolean as upstream reads it: anything but `false`, `0` and absence is true.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .is_some_and(|(_, value)| !matches!(value.as_str(), "false" | "0" | "False"))
    }

    /// A number, when it is one.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|value| value.parse().ok())
    }
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Whether the path names a resource (`/api/...`, `/apis/...`).
    pub resource_request: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for other paths
    /// the method in lower case.
    pub verb: &'static str,
    /// Decoded path.
    pub path: String,
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Resource, or empty.
    pub resource: String,
    /// Object name, or empty.
    pub name: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// What follows a subresource, e.g. the path of `proxy`.
    pub rest: String,
}

const NAMESPACE_SUBS: &[&str] = &["status", "finalize"];

impl Info {
    /// Reads a request.
    pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = percent_encoding::percent_decode_str(raw_path).decode_utf8_lossy().into_owned();
        let mut info = Self { path: path.clone(), verb: lower(method), ..Self::default() };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut at = match parts.as_slice() {
            ["api", version, _, ..] => {
                info.version = (*version).to_owned();
                2
            }
            ["apis", group, version, _, ..] => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                3
            }
            _ => return info,
        };
        info.resource_request = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let mut watch_prefix = false;
        if parts.get(at) == Some(&"watch") && parts.len() > at + 1 {
            watch_prefix = true;
            at += 1;
        }
        info.place(&parts[at..]);
        info.refine(method, query, watch_prefix);
        info
    }

    fn place(&mut self, parts: &[&str]) {
        match parts {
            ["namespaces", ns, rest @ ..] if !rest.is_empty() && !NAMESPACE_SUBS.contains(&rest[0]) => {
                self.namespace = (*ns).to_owned();
                self.object(rest);
            }
            ["namespaces", ns, rest @ ..] => {
                self.namespace = (*ns).to_owned();
                self.object(&[&["namespaces", ns], rest].concat());
            }
            _ => self.object(parts),
        }
    }

    fn object(&mut self, parts: &[&str]) {
        let mut parts = parts.iter();
        self.resource = parts.next().copied().unwrap_or_default().to_owned();
        self.name = parts.next().copied().unwrap_or_default().to_owned();
        self.subresource = parts.next().copied().unwrap_or_default().to_owned();
        self.rest = parts.copied().collect::<Vec<_>>().join("/");
    }

    fn refine(&mut self, method: &Method, query: &Query, watch_prefix: bool) {
        if self.verb == "get" && self.name.is_empty() {
            self.verb = if query.flag("watch") { "watch" } else { "list" };
            // A list of one name is authorized as that name.
            if let Some(name) = query.get("fieldSelector").and_then(single_name) {
                name.clone_into(&mut self.name);
            }
        }
        if watch_prefix && *method == Method::GET {
            self.verb = "watch";
        }
        if self.verb == "delete" && self.name.is_empty() {
            self.verb = "deletecollection";
        }
    }

    /// Whether the request may take as long as it likes.
    pub fn long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "proxy" | "exec" | "attach" | "portforward" | "log")
    }

    /// `apps/v1` or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

fn single_name(selector: &str) -> Option<&str> {
    let value = selector.split(',').find_map(|part| part.strip_prefix("metadata.name="))?;
    let value = value.strip_prefix('=').unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, url: &str, want: &str) {
        let (path, query) = url.split_once('?').map_or((url, None), |(p, q)| (p, Some(q)));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let i = Info::parse(&method, path, &Query::parse(query));
        let got = if i.resource_request {
            format!(
                "{} {} {} {} {} {} {}",
                i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
            )
        } else {
            format!("{} {}", i.verb, i.path)
        };
        assert_eq!(got, want, "{method} {url}");
    }

    #[test]
    fn requests_are_read_as_upstream_reads_them() {
        check("GET", "/api/v1/pods", "list  v1  pods  ");
        check("GET", "/api/v1/namespaces/a/pods/b/log", "get  v1 a pods b log");
        check("GET", "/api/v1/namespaces/a/pods?watch=1", "watch  v1 a pods  ");
        check("GET", "/api/v1/namespaces/a/pods?watch=0", "list  v1 a pods  ");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list  v1  pods x ");
        check("GET", "/api/v1/namespaces/a", "get  v1 a namespaces a ");
        check("PUT", "/api/v1/namespaces/a/finalize", "update  v1 a namespaces a finalize");
        check("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps v1 a deployments  ");
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch apps v1 a deployments d scale",
        );
        check("GET", "/api/v1/watch/nodes", "watch  v1  nodes  ");
        check("GET", "/api/v1", "get /api/v1");
        check("GET", "/apis/apps/v1", "get /apis/apps/v1");
        check("GET", "/healthz", "get /healthz");
        check("POST", "/api/v1/nodes/n/proxy/a/b", "create  v1  nodes n proxy");
    }
}
