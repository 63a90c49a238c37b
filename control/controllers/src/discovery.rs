//! Which resources the server has.

use coracle_client::{CallError, Calls, Resource};
use serde::Deserialize;

/// A resource and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) resource: Resource,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Found {
    /// Whether it has all these verbs.
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|it| it == verb))
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    name: String,
    preferred_version: Version,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Version {
    version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Listed {
    resources: Vec<One>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct One {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

/// What was found, and the groups that did not answer (their server is away).
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<Found>,
    pub(crate) failed: Vec<String>,
}

/// Asks for every group in its preferred version.
pub(crate) async fn discover(calls: &Calls) -> Result<Discovered, CallError> {
    let groups: Groups = calls.get("/apis").await?;
    let mut discovered = Discovered::default();
    let core = std::iter::once((String::new(), "v1".to_owned()));
    for (group, version) in
        core.chain(groups.groups.into_iter().map(|it| (it.name, it.preferred_version.version)))
    {
        let path = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/{version}") };
        match calls.get::<Listed>(&path).await {
            Ok(listed) => discovered.resources.extend(found(&group, &version, listed)),
            // Without the core nothing can be said; another group may be down for itself.
            Err(err) if group.is_empty() => return Err(err),
            Err(err) => discovered.failed.push(format!("{group}/{version}: {}", err.message())),
        }
    }
    Ok(discovered)
}

fn found(group: &str, version: &str, listed: Listed) -> impl Iterator<Item = Found> {
    let whole = listed.resources.into_iter().filter(|it| !it.name.contains('/'));
    whole.map(move |it| Found {
        resource: Resource::dynamic(group, version, &it.name),
        kind: it.kind,
        namespaced: it.namespaced,
        verbs: it.verbs,
    })
}
