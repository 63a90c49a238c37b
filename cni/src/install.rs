//! Put the plugins into a folder, one file under each plugin's name.

use crate::plugins::Kind;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BINARY: &str = "coracle-cni";

/// Why the plugins were not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Our own binary could not be found.
    #[error("find the binary {BINARY} beside this program")]
    Find {
        #[source]
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("install {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        #[source]
        /// What the system said.
        source: io::Error,
    },
}

/// Installs the plugins from the `coracle-cni` that lies beside the running program.
pub fn install(dir: &Path) -> Result<(), InstallError> {
    let find = || {
        let beside = std::env::current_exe()?.with_file_name(BINARY);
        if beside.is_file() {
            Ok(beside)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, beside.display().to_string()))
        }
    };
    install_from(&find().map_err(|source| InstallError::Find { source })?, dir)
}

/// Installs the plugins from a given binary: a copy, and a link to it for each name.
///
/// Each file changes at once, so that a runtime may call plugins meanwhile.
pub fn install_from(binary: &Path, dir: &Path) -> Result<(), InstallError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        |source| InstallError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(fail(dir))?;
    let target = dir.join(BINARY);
    let draft = dir.join(format!(".{BINARY}.new"));
    if !same_content(binary, &target).map_err(fail(&target))? {
        fs::copy(binary, &draft).and_then(|_| fs::rename(&draft, &target)).map_err(fail(&target))?;
    }
    for kind in Kind::ALL {
        let link = dir.join(kind.as_str());
        if fs::read_link(&link).is_ok_and(|to| to == Path::new(BINARY)) {
            continue;
        }
        let place = || {
            match fs::remove_file(&draft) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            std::os::unix::fs::symlink(BINARY, &draft)?;
            fs::rename(&draft, &link)
        };
        place().map_err(fail(&link))?;
    }
    Ok(())
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (Ok(one), Ok(two)) = (fs::metadata(a), fs::metadata(b)) else { return Ok(false) };
    Ok(one.len() == two.len() && fs::read(a)? == fs::read(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_the_binary_and_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, bin) = (dir.path().join("x"), dir.path().join("bin"));
        fs::write(&binary, "one").unwrap();
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("bridge"), "somebody else's").unwrap();
        for content in ["one", "one", "two!"] {
            fs::write(&binary, content).unwrap();
            install_from(&binary, &bin).unwrap();
            for kind in Kind::ALL {
                assert_eq!(fs::read_to_string(bin.join(kind.as_str())).unwrap(), content);
            }
        }
        let mut names: Vec<_> = fs::read_dir(&bin).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        let mut wanted: Vec<&str> = Kind::ALL.map(Kind::as_str).to_vec();
        wanted.push("coracle-cni");
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }
}
