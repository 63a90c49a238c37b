//! Checks of a pod's security context and of what it shares with its node.

use coracle_apimachinery::{FieldError, Path};
use serde_json::Value;

use super::containers;
use crate::kinds::tree::{is_set, list, text};
use crate::kinds::validate::Errors;

/// The longest name of a sysctl.
const SYSCTL_LENGTH: usize = 253;
/// What its name must look like, for people.
const SYSCTL_PATTERN: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// `spec.securityContext`.
pub fn context(errors: &mut Errors, path: &Path, spec: &Value) {
    let context = &spec["securityContext"];
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        containers::user(errors, &path.child(field), &context[field]);
    }
    for (index, group) in list(&context["supplementalGroups"]).iter().enumerate() {
        containers::user(errors, &path.child("supplementalGroups").index(index), group);
    }
    for (field, values) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
    ] {
        if is_set(&context[field]) {
            errors.one_of(&path.child(field), &context[field], &values);
        }
    }
    sysctls(errors, &path.child("sysctls"), spec);
}

fn sysctls(errors: &mut Errors, path: &Path, spec: &Value) {
    let mut seen: Vec<String> = Vec::new();
    for (index, sysctl) in list(&spec["securityContext"]["sysctls"]).iter().enumerate() {
        let (path, name) = (path.index(index).child("name"), text(&sysctl["name"]));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if name.len() > SYSCTL_LENGTH || !is_sysctl(name) {
            let why =
                format!("must have at most {SYSCTL_LENGTH} characters and match regex {SYSCTL_PATTERN}");
            errors.push(FieldError::invalid(&path, name, why));
            continue;
        }
        let dotted = with_dots(name);
        if seen.contains(&dotted) {
            errors.push(FieldError::duplicate(&path, name));
        }
        if let Some(flag) = shared_namespace(&dotted).filter(|flag| spec[*flag] == true) {
            let why = format!("may not be specified when '{flag}' is true");
            errors.push(FieldError::invalid(&path, name, why));
        }
        seen.push(dotted);
    }
}

/// Words of lower-case letters, digits, `-` and `_` that neither begin nor end with a sign, between dots or slashes.
fn is_sysctl(name: &str) -> bool {
    name.split(['.', '/']).all(|word| {
        let plain = |byte: Option<&u8>| byte.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        let bytes = word.as_bytes();
        plain(bytes.first())
            && plain(bytes.last())
            && bytes.iter().all(|it| plain(Some(it)) || matches!(it, b'-' | b'_'))
    })
}

/// The name with dots between its words: whichever sign comes first is its separator, the other is part of a word.
fn with_dots(name: &str) -> String {
    let first = name.find(['.', '/']).and_then(|at| name.as_bytes().get(at));
    if first == Some(&b'/') {
        let swap = |c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        };
        return name.chars().map(swap).collect();
    }
    name.to_owned()
}

/// The flag by which the namespace of a sysctl is the node's own.
fn shared_namespace(dotted: &str) -> Option<&'static str> {
    let ipc = dotted == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|it| dotted.starts_with(it));
    if ipc {
        return Some("hostIPC");
    }
    dotted.starts_with("net.").then_some("hostNetwork")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validate::tests::shown;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals")]
    fn check(spec: Value, expected: &[&str]) {
        let mut errors = Errors::default();
        context(&mut errors, &Path::new("securityContext"), &spec);
        let text = shown(&errors.0);
        for part in expected {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(errors.0.len(), expected.len(), "{text}");
    }

    fn named(names: &[&str]) -> Value {
        let sysctls: Vec<Value> = names.iter().map(|it| json!({"name": it, "value": "1"})).collect();
        json!({"securityContext": {"sysctls": sysctls}})
    }

    #[test]
    fn sysctls_are_named_well_and_once() {
        check(named(&["kernel.shmmax", "net/ipv4/conf/eth0.1/x", "a-b.c_d"]), &[]);
        check(named(&["foo-", "bar..", "A.b", ""]), &["\"foo-\"", "\"bar..\"", "\"A.b\"", "Required value"]);
        check(named(&["kernel.sem", "kernel/sem"]), &["Duplicate value: \"kernel/sem\""]);
    }

    #[test]
    fn sysctls_of_the_node_itself_are_refused() {
        let mut spec = named(&["kernel.shmmax", "net.core.somaxconn"]);
        spec["hostIPC"] = json!(true);
        check(spec.clone(), &["may not be specified when 'hostIPC' is true"]);
        spec["hostNetwork"] = json!(true);
        check(spec, &["'hostIPC'", "'hostNetwork'"]);
    }

    #[test]
    fn policies_and_groups() {
        check(
            json!({"securityContext": {"supplementalGroupsPolicy": "Some", "supplementalGroups": [1, -1]}}),
            &["supplementalGroups[1]", "supplementalGroupsPolicy: Unsupported value"],
        );
    }
}
