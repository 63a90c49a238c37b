//! Files that only their owner can read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::PkiError;

/// Makes the folder, 0700, when it is missing.
pub(super) fn make_folder(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| PkiError::File {
        verb: "make folder",
        path: path.to_owned(),
        source,
    })
}

/// The file's text; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { verb: "read", path: path.to_owned(), source }),
    }
}

/// Replaces the file as a whole, 0600, durable when this returns.
pub(super) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { verb: "write", path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(failed(err)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        fs::File::open(folder).and_then(|it| it.sync_all()).map_err(failed)?;
    }
    Ok(())
}
