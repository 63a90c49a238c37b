//! Which credentials are for which image.

use coracle_cri::proto as v1;
use ring::digest;

use super::accounts::AccountRef;

/// Who one of docker.io's images may be asked for as.
const DEFAULT_REGISTRIES: [&str; 2] = ["docker.io", "index.docker.io"];

/// What one registry wants to hear.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Host (with globs, perhaps), port, path: which images it is for.
    pub key: String,
    /// Where it is from.
    pub source: Source,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) identity_token: String,
}

/// Where a credential is from: who else may use what is pulled with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The node: all of its pods.
    Node,
    /// A Secret: pods that know it, too.
    Secret(SecretRef),
    /// A plugin that was asked in the name of a service account: pods that run as it, too.
    Account(AccountRef),
}

/// A Secret, and a fingerprint of the entry in it that was used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Of user and password.
    #[serde(rename = "credentialHash", default)]
    pub hash: String,
}

impl Credential {
    /// A user of the node's for images at `registry`: `https://host/v1/`, `host:port/path`, `*.host`.
    pub fn new(registry: &str, username: String, password: String) -> Self {
        let (key, source) = (key(registry), Source::Node);
        Self { key, source, username, password, identity_token: String::new() }
    }

    /// As CRI wants it.
    pub fn auth(&self) -> v1::AuthConfig {
        v1::AuthConfig {
            username: self.username.clone(),
            password: self.password.clone(),
            identity_token: self.identity_token.clone(),
            ..Default::default()
        }
    }

    /// The same for the same user and password, and telling neither.
    pub(super) fn fingerprint(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.username, &self.password, &self.identity_token] {
            context.update(&u64::try_from(part.len()).unwrap_or_default().to_be_bytes());
            context.update(part.as_bytes());
        }
        hex(context.finish().as_ref())
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Host and path without scheme; `/v1/` and `/v2/` are how docker says "all of it".
fn key(registry: &str) -> String {
    let rest = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://"));
    let rest = rest.unwrap_or(registry);
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// Credentials in the order in which they are tried.
#[derive(Clone, Default)]
pub struct Keyring {
    credentials: Vec<Credential>,
}

impl Keyring {
    /// All of these.
    pub fn new(mut credentials: Vec<Credential>) -> Self {
        // Downwards, so that of two keys of which one begins with the other the longer one is first.
        credentials.sort_by(|a, b| b.key.cmp(&a.key));
        Self { credentials }
    }

    /// Those for the images of a repository, the most special first. Of docker.io's, entries of its old name count
    /// where no other does.
    pub fn lookup(&self, repository: &str) -> Vec<&Credential> {
        let found: Vec<_> = self.credentials.iter().filter(|it| matches(&it.key, repository)).collect();
        if !found.is_empty() || !repository.starts_with("docker.io/") {
            return found;
        }
        self.credentials.iter().filter(|it| DEFAULT_REGISTRIES.contains(&it.key.as_str())).collect()
    }
}

/// Whether a key with globs in its host is for this image: as many parts of the host, the same port, and a path that
/// begins with its path.
pub(super) fn matches(key: &str, image: &str) -> bool {
    let (key_host, key_port, key_path) = parts(key);
    let (host, port, path) = parts(image);
    let (wanted, found): (Vec<&str>, Vec<&str>) = (key_host.split('.').collect(), host.split('.').collect());
    key_port == port
        && path.starts_with(key_path)
        && wanted.len() == found.len()
        && wanted.iter().zip(found).all(|(glob, text)| glob_matches(glob.as_bytes(), text.as_bytes()))
}

fn parts(key: &str) -> (&str, &str, &str) {
    let (authority, path) = key.find('/').map_or((key, ""), |at| key.split_at(at));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (host, port, path)
}

/// `*`, `?`, `[a-z]`, `[^x]` and `\` as in shells.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    match glob {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skipped| glob_matches(rest, &text[skipped..])),
        [b'?', rest @ ..] => !text.is_empty() && glob_matches(rest, &text[1..]),
        [b'[', rest @ ..] => match (class(rest), text) {
            (Some((class, rest)), [first, text @ ..]) => class.has(*first) && glob_matches(rest, text),
            _ => false,
        },
        [b'\\', escaped, rest @ ..] => text.first() == Some(escaped) && glob_matches(rest, &text[1..]),
        [plain, rest @ ..] => text.first() == Some(plain) && glob_matches(rest, &text[1..]),
    }
}

/// What stands between brackets.
struct Class<'a> {
    but: bool,
    members: &'a [u8],
}

/// The class that begins after a `[`, and what is left of the glob.
fn class(glob: &[u8]) -> Option<(Class<'_>, &[u8])> {
    let but = glob.first() == Some(&b'^');
    let members = if but { &glob[1..] } else { glob };
    let end = members.iter().position(|it| *it == b']').filter(|it| *it > 0)?;
    Some((Class { but, members: &members[..end] }, &members[end + 1..]))
}

impl Class<'_> {
    fn has(&self, byte: u8) -> bool {
        let mut rest = self.members;
        let mut found = false;
        while let [first, tail @ ..] = rest {
            rest = match tail {
                [b'-', last, tail @ ..] => {
                    found |= (*first..=*last).contains(&byte);
                    tail
                }
                tail => {
                    found |= *first == byte;
                    tail
                }
            };
        }
        found != self.but
    }
}

/// Whether a pattern of hosts, ports and paths can be read at all.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let (host, port, _) = parts(pattern);
    let whole = |part: &str| {
        let mut rest = part.as_bytes();
        while let Some(at) = rest.iter().position(|it| *it == b'[') {
            let Some((_, left)) = class(&rest[at + 1..]) else { return false };
            rest = left;
        }
        true
    };
    !host.is_empty()
        && !pattern.contains("://")
        && pattern.bytes().all(|it| it.is_ascii_graphic())
        && (port.is_empty() || port.parse::<u16>().is_ok())
        && host.split('.').all(|part| !part.is_empty() && whole(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_images() {
        let check =
            |key: &str, image: &str, want: bool| assert_eq!(matches(key, image), want, "{key} {image}");
        check("reg.example", "reg.example/a/b", true);
        check("reg.example", "reg.example:5000/a", false);
        check("reg.example:5000", "reg.example:5000/a", true);
        check("reg.example/team", "reg.example/team/app", true);
        check("reg.example/team", "reg.example/other/app", false);
        check("*.example", "reg.example/a", true);
        check("*.example", "a.reg.example/a", false);
        check("*.*.example", "a.reg.example/a", true);
        check("*.example:80", "reg.example/a", false);
        check("pre*.example", "prefix.example/a", true);
        check("*fix.example/a", "prefix.example/ab", true);
        check("r?g.example", "reg.example/a", true);
        check("r[a-f]g.example", "reg.example/a", true);
        check("r[^e]g.example", "reg.example/a", false);
        check("*", "localhost/a", true);
        check("123*.dkr.ecr.*.amazonaws.com", "12345.dkr.ecr.eu-west-1.amazonaws.com/x", true);
    }

    #[test]
    fn the_most_special_is_first() {
        let entry = |registry: &str| Credential::new(registry, registry.to_owned(), String::new());
        let keyring = Keyring::new(vec![
            entry("https://reg.example/v1/"),
            entry("reg.example/team/app"),
            entry("*.example"),
            entry("http://reg.example/team"),
            entry("https://index.docker.io/v1/"),
        ]);
        let check = |image: &str, want: &[&str]| {
            let found: Vec<&str> = keyring.lookup(image).iter().map(|it| it.username.as_str()).collect();
            assert_eq!(found, want, "{image}");
        };
        let whole = "https://reg.example/v1/";
        check(
            "reg.example/team/app",
            &["reg.example/team/app", "http://reg.example/team", whole, "*.example"],
        );
        check("reg.example/other", &[whole, "*.example"]);
        check("docker.io/library/busybox", &["https://index.docker.io/v1/"]);
        check("other.test/a", &[]);
    }

    #[test]
    fn patterns() {
        for good in ["*.example", "reg.example:5000/a/b", "r[a-z]g.example", "*"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "https://a", "a..b", "a:99999", "r[.example", "a b"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
