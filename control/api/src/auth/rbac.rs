//! RBAC: what rules mean, whom bindings bind, and who may hand out what.

use serde::{Deserialize, Serialize};

use super::authorizer::Attributes;
use super::index::AuthIndex;
use super::user::UserInfo;

/// A rule of a Role or ClusterRole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Object names; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, with a `*` at the end at most.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// The role a binding gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RoleRef {
    /// Group of the role.
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Whom a binding binds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Group of the subject's kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Its name.
    pub name: String,
    /// Namespace of a service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// A RoleBinding or, without a namespace, a ClusterRoleBinding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Its namespace; empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it gives.
    pub role: RoleRef,
    /// To whom.
    pub subjects: Vec<Subject>,
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|it| (*it).to_owned()).collect()
}

fn has(values: &[String], wanted: &str) -> bool {
    values.iter().any(|it| it == "*" || it == wanted)
}

impl PolicyRule {
    /// Every verb on every resource.
    pub fn everything() -> Self {
        Self {
            verbs: strings(&["*"]),
            api_groups: strings(&["*"]),
            resources: strings(&["*"]),
            ..Self::default()
        }
    }

    /// Every verb on every path.
    pub fn every_path() -> Self {
        Self { verbs: strings(&["*"]), non_resource_urls: strings(&["*"]), ..Self::default() }
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.resource_request {
            return self.non_resource_urls.iter().any(|pattern| path_matches(pattern, attributes.path));
        }
        has(&self.api_groups, attributes.group)
            && self
                .resources
                .iter()
                .any(|it| resource_matches(it, attributes.resource, attributes.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == attributes.name))
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

impl Subject {
    /// Whether the subject is `user`; service accounts without a namespace live in the binding's.
    pub fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.username == self.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace =
                    if self.namespace.is_empty() { binding_namespace } else { self.namespace.as_str() };
                !namespace.is_empty()
                    && user
                        .username
                        .strip_prefix("system:serviceaccount:")
                        .and_then(|rest| rest.split_once(':'))
                        == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }

    fn describe(&self, binding_namespace: &str) -> String {
        if self.kind == "ServiceAccount" {
            let namespace =
                if self.namespace.is_empty() { binding_namespace } else { self.namespace.as_str() };
            return format!("ServiceAccount \"{}/{namespace}\"", self.name);
        }
        format!("{} \"{}\"", self.kind, self.name)
    }
}

impl Binding {
    fn describe(&self, subject: &Subject) -> String {
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        format!(
            "{kind} \"{name}\" of {} \"{}\" to {}",
            self.role.kind,
            self.role.name,
            subject.describe(&self.namespace)
        )
    }
}

/// Calls `visit` with each binding that applies to `user` in `namespace` and its rules, until it returns true.
fn visit(
    user: &UserInfo,
    namespace: &str,
    index: &AuthIndex,
    mut visit: impl FnMut(&Binding, &Subject, Result<&[PolicyRule], String>) -> bool,
) {
    let subject_of =
        |binding: &Binding| binding.subjects.iter().find(|it| it.is(user, &binding.namespace)).cloned();
    for binding in index.bindings(namespace, |binding| subject_of(binding).is_some()) {
        let Some(subject) = subject_of(&binding) else { continue };
        let done = match index.rules_of(&binding.role, &binding.namespace) {
            Ok(rules) => visit(&binding, &subject, Ok(&rules)),
            Err(reason) => visit(&binding, &subject, Err(reason)),
        };
        if done {
            return;
        }
    }
}

/// `Ok` with the reason when a binding allows the request, else `Err` with what there is to say.
pub fn authorize(attributes: &Attributes<'_>, index: &AuthIndex) -> Result<String, String> {
    let mut allowed = None;
    let mut problems = Vec::new();
    visit(attributes.user, attributes.namespace, index, |binding, subject, rules| {
        match rules {
            Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                allowed = Some(format!("RBAC: allowed by {}", binding.describe(subject)));
            }
            Ok(_) => {}
            Err(reason) => problems.push(reason),
        }
        allowed.is_some()
    });
    match allowed {
        Some(reason) => Ok(reason),
        None if problems.is_empty() => Err(String::new()),
        None if problems.len() == 1 => Err(format!("RBAC: {}", problems[0])),
        None => Err(format!("RBAC: [{}]", problems.join(", "))),
    }
}

/// All rules that apply to a user in a namespace.
pub fn rules_for(user: &UserInfo, namespace: &str, index: &AuthIndex) -> Vec<PolicyRule> {
    let mut all = Vec::new();
    visit(user, namespace, index, |_, _, rules| {
        all.extend(rules.unwrap_or_default().iter().cloned());
        false
    });
    all
}

/// Whether `held` covers every right that `wanted` gives; the error is upstream's text.
pub fn check_held(user: &UserInfo, held: &[PolicyRule], wanted: &[PolicyRule]) -> Result<(), String> {
    let rights = wanted.iter().map(right_count).fold(0, usize::saturating_add);
    if rights > MAX_RIGHTS {
        return Err(format!("the rules expand to {rights} rights; at most {MAX_RIGHTS} can be checked"));
    }
    let missing: Vec<PolicyRule> = wanted
        .iter()
        .flat_map(single_rights)
        .filter(|right| !held.iter().any(|rule| covers(rule, right)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(missing).iter().map(brief).collect();
    lines.sort();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    Err(format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.username,
        groups.join(" "),
        lines.join("\n")
    ))
}

/// Single rights that one check looks at: a small object can expand to billions.
const MAX_RIGHTS: usize = 10_000;

/// How many rights [`single_rights`] makes of a rule.
fn right_count(rule: &PolicyRule) -> usize {
    let objects = rule
        .api_groups
        .len()
        .saturating_mul(rule.resources.len())
        .saturating_mul(rule.resource_names.len().max(1));
    rule.verbs.len().saturating_mul(objects.saturating_add(rule.non_resource_urls.len()))
}

/// A rule taken apart: one verb, one group, one resource, one name at most.
fn single_rights(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut rights = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let right = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    rights.push(right);
                } else {
                    rights.extend(
                        rule.resource_names
                            .iter()
                            .map(|name| PolicyRule { resource_names: vec![name.clone()], ..right.clone() }),
                    );
                }
            }
        }
        rights.extend(rule.non_resource_urls.iter().map(|url| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: vec![url.clone()],
            ..PolicyRule::default()
        }));
    }
    rights
}

fn covers(rule: &PolicyRule, right: &PolicyRule) -> bool {
    if !right.verbs.iter().all(|verb| has(&rule.verbs, verb)) {
        return false;
    }
    if !right.non_resource_urls.is_empty() {
        return right
            .non_resource_urls
            .iter()
            .all(|url| rule.non_resource_urls.iter().any(|pattern| path_matches(pattern, url)));
    }
    right.api_groups.iter().all(|group| has(&rule.api_groups, group))
        && right.resources.iter().all(|resource| {
            let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
            has(&rule.resources, resource) || sub.is_some_and(|sub| rule.resources.contains(&sub))
        })
        && (rule.resource_names.is_empty()
            || (!right.resource_names.is_empty()
                && right.resource_names.iter().all(|name| rule.resource_names.contains(name))))
}

/// Joins single rights that differ in their verb only.
fn compact(rights: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    for right in rights {
        let same = joined.iter_mut().find(|it| {
            it.api_groups == right.api_groups
                && it.resources == right.resources
                && it.resource_names == right.resource_names
                && it.non_resource_urls == right.non_resource_urls
        });
        match same {
            Some(it) => {
                for verb in right.verbs {
                    if !it.verbs.contains(&verb) {
                        it.verbs.push(verb);
                    }
                }
            }
            None => joined.push(right),
        }
    }
    joined
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn brief(rule: &PolicyRule) -> String {
    let part = |name: &str, values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|it| format!("{it:?}")).collect();
        (!values.is_empty()).then(|| format!("{name}:[{}]", quoted.join(" ")))
    };
    let parts: Vec<String> = [
        part("APIGroups", &rule.api_groups),
        part("Resources", &rule.resources),
        part("ResourceNames", &rule.resource_names),
        part("NonResourceURLs", &rule.non_resource_urls),
        part("Verbs", &rule.verbs),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{{{}}}", parts.join(", "))
}
