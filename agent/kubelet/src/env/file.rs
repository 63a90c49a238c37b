//! Variables from files of a volume: `NAME='value'`, the value literally as it stands between its quotes.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// No environment is larger than this.
const LARGEST: u64 = 1 << 20;

/// Why a file has no variables.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FileError {
    #[error("there is no such file")]
    Missing,
    #[error("open the file: {0}")]
    Open(nix::Error),
    #[error("read the file: {0}")]
    Read(std::io::ErrorKind),
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    #[error("line {0} is no NAME='value'")]
    Form(usize),
}

/// The value of `key` in the file at `path` below a volume; the file must be well-formed as a whole. Containers may
/// write to the volume: no link leads out of it. Blocking.
pub(super) fn read(volume: &Path, path: &str, key: &str) -> Result<Option<String>, FileError> {
    let open = |err: std::io::Error| FileError::Read(err.kind());
    let folder = std::fs::File::open(volume).map_err(open)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(folder.as_fd(), path.trim_start_matches('/'), how) {
        Ok(fd) => std::fs::File::from(fd),
        Err(nix::Error::ENOENT) => return Err(FileError::Missing),
        Err(err) => return Err(FileError::Open(err)),
    };
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(open)?;
    if u64::try_from(text.len()).is_ok_and(|it| it > LARGEST) {
        return Err(FileError::TooLarge);
    }
    find(&text, key)
}

/// The last value of `key`: pure.
fn find(text: &str, key: &str) -> Result<Option<String>, FileError> {
    let mut found = None;
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let trimmed = rest[..end].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            continue;
        }
        let (name, value, after) = declaration(rest).ok_or(FileError::Form(line))?;
        if name == key {
            found = Some(value.to_owned());
        }
        line += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    Ok(found)
}

/// `NAME = 'value'` up to the end of its line, and what comes after it.
fn declaration(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    let is_name = !name.is_empty()
        && !name.starts_with(|it: char| it.is_ascii_digit())
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-.".contains(&it));
    let (value, rest) = rest.trim_start_matches([' ', '\t']).strip_prefix('\'')?.split_once('\'')?;
    let (left, after) = rest.split_once('\n').unwrap_or((rest, ""));
    (is_name && left.trim().is_empty()).then_some((name, value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let check = |text: &str, want: Result<Option<&str>, usize>| {
            let want = want.map(|it| it.map(str::to_owned)).map_err(FileError::Form);
            assert_eq!(find(text, "K"), want, "{text:?}");
        };
        check("", Ok(None));
        check("K='v'", Ok(Some("v")));
        check("# c\n\n  K='v'  \nA='b'\n", Ok(Some("v")));
        check("K = 'v'", Ok(Some("v")));
        check("K=''\n", Ok(Some("")));
        check("K='one\ntwo # three'\n", Ok(Some("one\ntwo # three")));
        check("K='$HOME \\n \"'\n", Ok(Some("$HOME \\n \"")));
        check("K='1'\nK='2'\n", Ok(Some("2")));
        check("A='b'\n", Ok(None));
        check("K=v", Err(1));
        check("A='b\nc'\nK=\"v\"", Err(3));
        check("K='a''b'", Err(1));
        check("K='a'$B", Err(1));
        check("K='open", Err(1));
        check("word\nK='v'", Err(1));
        check("='v'", Err(1));
    }

    #[test]
    fn no_link_leads_out() {
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("env"), "K='secret'").unwrap();
        std::os::unix::fs::symlink(outside.path().join("env"), volume.path().join("link")).unwrap();
        std::fs::write(volume.path().join("env"), "K='v'").unwrap();
        assert_eq!(read(volume.path(), "env", "K"), Ok(Some("v".into())));
        assert_eq!(read(volume.path(), "/env", "K"), Ok(Some("v".into())));
        assert_eq!(read(volume.path(), "none", "K"), Err(FileError::Missing));
        assert!(matches!(read(volume.path(), "link", "K"), Err(FileError::Open(_))));
        assert!(matches!(read(volume.path(), "../env", "K"), Err(FileError::Open(_))));
    }
}
