//! What a user may call an image.

/// The name with `:latest` where it has neither tag nor digest; none when it cannot be an image's name.
pub fn normalize(image: &str) -> Option<String> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|it| !is_digest(it)) {
        return None;
    }
    let slash = rest.rfind('/').map_or(0, |it| it + 1);
    let (path, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|it| !is_tag(it)) || !is_path(path) {
        return None;
    }
    match (tag, digest) {
        (None, None) => Some(format!("{image}:latest")),
        _ => Some(image.to_owned()),
    }
}

/// The repository in full, without tag and digest: `docker.io/library/busybox` for `busybox:1`.
pub fn repository(image: &str) -> String {
    let rest = image.split_once('@').map_or(image, |(rest, _)| rest);
    let slash = rest.rfind('/').map_or(0, |it| it + 1);
    let path = rest[slash..].find(':').map_or(rest, |colon| &rest[..slash + colon]);
    match path.split_once('/') {
        Some((host, _)) if is_host(host) => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    }
}

/// Whether the first part of a name is a registry, not a folder of docker.io's.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|it| it.is_ascii_uppercase())
}

fn is_digest(it: &str) -> bool {
    it.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|it| it.is_ascii_hexdigit())
    })
}

fn is_tag(it: &str) -> bool {
    let word = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    (1..=128).contains(&it.len())
        && it.bytes().next().is_some_and(word)
        && it.bytes().all(|it| word(it) || it == b'.' || it == b'-')
}

/// A host (with a port, perhaps), then components in lower case.
fn is_path(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 1 && is_host(parts[0]) {
        let host = parts.remove(0);
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let named =
            !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'.' || it == b'-');
        if !named || port.parse::<u16>().is_err() {
            return false;
        }
    }
    parts.iter().all(|it| is_component(it))
}

fn is_component(it: &str) -> bool {
    let word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = it.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(*first)
        && word(*last)
        && bytes.iter().all(|it| word(*it) || b"._-".contains(it))
        && !it.contains("..")
        && !it.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: &str, expected: Option<&str>) {
        assert_eq!(normalize(image).as_deref(), expected, "{image}");
    }

    #[test]
    fn names() {
        let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        check("busybox", Some("busybox:latest"));
        check("busybox:1.37", Some("busybox:1.37"));
        check("localhost:5000/a/b", Some("localhost:5000/a/b:latest"));
        check("reg.example/a/b:v1", Some("reg.example/a/b:v1"));
        check(&format!("a/b@{digest}"), Some(&format!("a/b@{digest}")));
        check("a/b@sha256:12", None);
        check("Busybox", None);
        check("busybox:", None);
        check("some/INVALID/image", None);
        check("invalid name", None);
        check("", None);
        check("a//b", None);
    }

    #[test]
    fn repositories() {
        for (image, want) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1", "docker.io/library/busybox"),
            ("team/app:1", "docker.io/team/app"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b"),
            ("reg.example/a@sha256:00", "reg.example/a"),
            ("reg.example:1/a:1@sha256:00", "reg.example:1/a"),
        ] {
            assert_eq!(repository(image), want, "{image}");
        }
    }
}
