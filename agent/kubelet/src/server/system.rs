//! Files under /var/log.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::AsyncReadExt;

use super::answer::{Answer, streamed, text, whole};

const ROOT: &str = "/var/log";

/// A file, or a list of a folder's entries. Links may not lead out of /var/log.
pub(super) async fn serve(path: &str) -> Answer {
    let missing = || text(StatusCode::NOT_FOUND, "404 page not found\n");
    let wanted = Path::new(ROOT).join(path.trim_start_matches('/'));
    let resolved = tokio::task::spawn_blocking(move || resolve(&wanted)).await;
    match resolved {
        Ok(Some((path, true))) => list(&path).await.unwrap_or_else(missing),
        Ok(Some((path, false))) => file(path).await.unwrap_or_else(missing),
        Ok(None) | Err(_) => missing(),
    }
}

/// The real path, and whether it is a folder.
fn resolve(wanted: &Path) -> Option<(PathBuf, bool)> {
    let root = Path::new(ROOT).canonicalize().ok()?;
    let path = wanted.canonicalize().ok().filter(|it| it.starts_with(&root))?;
    let kind = path.metadata().ok()?;
    (kind.is_dir() || kind.is_file()).then(|| (path, kind.is_dir()))
}

async fn list(path: &Path) -> Option<Answer> {
    let mut entries = tokio::fs::read_dir(path).await.ok()?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.ok()? {
        let slash = if entry.file_type().await.ok()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let mut page =
        String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
        // Writing to a String cannot fail.
        let _ = writeln!(page, "<a href=\"{shown}\">{shown}</a>");
    }
    page.push_str("</pre>\n");
    Some(whole(StatusCode::OK, "text/html; charset=utf-8", page))
}

async fn file(path: PathBuf) -> Option<Answer> {
    let file = tokio::fs::File::open(path).await.ok()?;
    let pieces = futures::stream::unfold(file, |mut file| async move {
        let mut piece = vec![0; 32 << 10];
        let count = file.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        piece.truncate(count);
        Some((Bytes::from(piece), file))
    });
    Some(streamed("text/plain; charset=utf-8", pieces))
}
