//! What names, labels, keys and addresses may look like. Each check returns its complaints in the sentences clients
//! know; an empty list means the text is fine.

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                         must start and end with an alphanumeric character";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
                             or '.', and must start and end with an alphanumeric character";
const DNS1035_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                           alphabetic character, and end with an alphanumeric character";
const WILDCARD_MSG: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
                            which must consist of lower case alphanumeric characters, '-' or '.' and end with an \
                            alphanumeric character";
const KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                       alphanumeric character";
const VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                         '.', and must start and end with an alphanumeric character";
const ENV_MSG: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const CONFIG_KEY_MSG: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const IDENTIFIER_MSG: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string \
                              of alphanumeric characters or '_'";
const PERCENT_MSG: &str = "a valid percent string must be a numeric string followed by an ending '%'";
const HEADER_MSG: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";

/// "must be no more than N characters".
#[must_use]
pub fn max_len(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// "must be between LO and HI, inclusive".
#[must_use]
pub fn in_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The complaint that a text does not match an expression, with examples of texts that do.
#[must_use]
pub fn regex_error(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

fn is_label(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    surrounded(text, edge, |b| edge(b) || b == b'-')
}

/// Non-empty, `edge` at both ends, `inner` all through.
fn surrounded(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [first, .., last] => edge(*first) && edge(*last) && text.bytes().all(inner),
        [only] => edge(*only),
    }
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// A DNS label: lower-case letters, digits, dashes; at most 63.
#[must_use]
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(max_len(63));
    }
    if !is_label(text) {
        errors.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            regex_error(LABEL_MSG, LABEL_FMT, &["my-name", "123-abc"])
        });
    }
    errors
}

/// DNS labels joined by dots; at most 253.
#[must_use]
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(max_len(253));
    }
    if !is_subdomain(text) {
        errors.push(regex_error(SUBDOMAIN_MSG, SUBDOMAIN_FMT, &["example.com"]));
    }
    errors
}

/// A DNS label that starts with a letter; at most 63.
#[must_use]
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(max_len(63));
    }
    if !(is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())) {
        errors.push(regex_error(DNS1035_MSG, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    errors
}

/// `*.` in front of a DNS subdomain.
#[must_use]
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(max_len(253));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        errors.push(regex_error(WILDCARD_MSG, &format!(r"\*\.{SUBDOMAIN_FMT}"), &["*.example.com"]));
    }
    errors
}

fn is_key(text: &str) -> bool {
    surrounded(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A label or annotation key: an optional DNS subdomain, a slash, a name of at most 63.
#[must_use]
pub fn qualified_name(text: &str) -> Vec<String> {
    let key_error = || regex_error(KEY_MSG, KEY_FMT, &["MyName", "my.name", "123-abc"]);
    let mut errors = Vec::new();
    let parts: Vec<_> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(
                    dns1123_subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")),
                );
            }
            name
        }
        _ => {
            errors.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                key_error()
            ));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", max_bytes(63)));
    }
    if !is_key(name) {
        errors.push(format!("name part {}", key_error()));
    }
    errors
}

/// The value of a label: empty, or like the name part of a key.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(max_bytes(63));
    }
    if !(text.is_empty() || is_key(text)) {
        let expression = format!("({KEY_FMT})?");
        errors.push(regex_error(VALUE_MSG, &expression, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// The name of an environment variable.
#[must_use]
pub fn env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![ENV_MSG.to_owned()]
}

/// A key in the data of a ConfigMap or Secret.
#[must_use]
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(max_len(253));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        errors.push(regex_error(CONFIG_KEY_MSG, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// A name in C.
#[must_use]
pub fn c_identifier(text: &str) -> Vec<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(good) {
        return Vec::new();
    }
    vec![regex_error(IDENTIFIER_MSG, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// The number of a port.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![in_range(1, 65535)] }
}

/// The name of a port: an IANA service name.
#[must_use]
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(max_len(15));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A text like `25%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let good = text.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if good { Vec::new() } else { vec![regex_error(PERCENT_MSG, "[0-9]+%", &["1%", "93%"])] }
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(HEADER_MSG, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// One segment of a URL path, as the most liberal names (roles, bindings) must be.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|part| text.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// An IP address of either family.
#[must_use]
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// An address block of either family.
#[must_use]
pub fn cidr(text: &str) -> Vec<String> {
    let good = text.split_once('/').is_some_and(|(address, length)| {
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        match (address.parse::<std::net::IpAddr>(), length.parse::<u8>()) {
            (Ok(std::net::IpAddr::V4(_)), Ok(bits)) => digits && bits <= 32,
            (Ok(std::net::IpAddr::V6(_)), Ok(bits)) => digits && bits <= 128,
            _ => false,
        }
    });
    if good {
        Vec::new()
    } else {
        vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
    }
}

/// Checks a `generateName` prefix like a name, without its trailing dashes.
#[must_use]
pub fn as_prefix(text: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(head) if !head.is_empty() => check(&format!("{head}a")),
        _ => check(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(validate: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(validate(text), Vec::<String>::new(), "{text:?}");
        }
        for text in bad {
            assert_ne!(validate(text), Vec::<String>::new(), "{text:?}");
        }
    }

    #[test]
    fn tables() {
        let long = "a".repeat(64);
        check(dns1123_label, &["a", "0", "a-b", "1a"], &["", "A", "-a", "a-", "a.b", "a_b", &long, "é"]);
        check(
            dns1123_subdomain,
            &["a", "a.b", &long, "0.1"],
            &["", "a..b", ".a", "a.", "A.b", &"a".repeat(254)],
        );
        check(dns1035_label, &["a", "a1", "a-1"], &["", "1a", "-a", "a-", "a.b", &long]);
        check(wildcard_dns1123_subdomain, &["*.a", "*.a.b"], &["*", "*.", "a.b", "*.*.a"]);
        check(qualified_name, &["a", "A_b.c-d", "x.io/Name"], &["", "/a", "x/", "a/b/c", "_a", "X/a", &long]);
        check(label_value, &["", "a", "A_b.c-d", "1"], &["-a", "a b", "a/", &long]);
        check(env_var_name, &["A", "1a", "a.b-c d", "-"], &["", "a=b", "é", "a\tb"]);
        check(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]);
        check(c_identifier, &["a", "_", "A1"], &["", "1a", "a-b"]);
        check(port_name, &["http", "a1", "1a", "a-b"], &["", "80", "a--b", "-a", "HTTP", "abcdefghijklmnop"]);
        check(percent, &["1%", "100%"], &["", "%", "1", "-1%", "1.5%"]);
        check(path_segment, &["a", "a:b", "A b"], &[".", "..", "a/b", "a%b"]);
        check(ip, &["1.2.3.4", "::1", "2001:db8::ffff"], &["", "1.2.3", "1.2.3.256", "a", "01.2.3.4"]);
        check(
            cidr,
            &["10.0.0.0/8", "::/0", "2001:db8::/64"],
            &["", "10.0.0.0", "10.0.0.0/33", "::/129", "1.2.3.4/+8"],
        );
    }

    #[test]
    fn sentences() {
        assert_eq!(
            dns1123_subdomain("Bad_Name"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                 must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1035_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    }

    #[test]
    fn prefixes_may_end_in_a_dash() {
        assert_eq!(as_prefix("web-", dns1123_subdomain), Vec::<String>::new());
        assert_ne!(as_prefix("Web-", dns1123_subdomain), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            for validate in [dns1123_label, dns1123_subdomain, qualified_name, label_value, port_name, cidr] {
                let _ = validate(&text);
            }
        }

        #[test]
        fn labels_are_subdomains(text in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?") {
            prop_assert!(dns1123_label(&text).is_empty() && dns1123_subdomain(&text).is_empty());
        }
    }
}
