//! The files of one log: `0.log`, rotated ones `0.log.20260102-150405`, compressed ones with `.gz`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The form of the time in a rotated file's name.
pub(super) const STAMP: &str = "%Y%m%d-%H%M%S";
const COMPRESSED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

/// What to do with the rotated files of one log, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tidy {
    pub(super) remove: Vec<String>,
    pub(super) compress: Vec<String>,
}

/// Of the rotated files among `names` the newest `keep` stay, all of them compressed but the newest one, which a
/// collector may still be reading. Pure.
pub(super) fn tidy(log: &str, names: &[String], keep: usize) -> Tidy {
    let mut plan = Tidy::default();
    let mut rotated: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for name in names {
        let Some((stem, kind)) = rotated_name(log, name) else { continue };
        match kind {
            Kind::Plain => rotated.entry(stem).or_default().0 = true,
            Kind::Compressed => rotated.entry(stem).or_default().1 = true,
            Kind::Unfinished => plan.remove.push(name.clone()),
        }
    }
    for (age, (stem, (plain, compressed))) in rotated.into_iter().rev().enumerate() {
        let kept = age < keep;
        if compressed && !kept {
            plan.remove.push(format!("{stem}{COMPRESSED}"));
        }
        if plain && (compressed || !kept) {
            plan.remove.push(stem.to_owned());
        } else if plain && age > 0 {
            plan.compress.push(stem.to_owned());
        }
    }
    plan
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Compressed,
    Unfinished,
}

/// The name without its last part, if it is that of a rotated file of `log`.
fn rotated_name<'a>(log: &str, name: &'a str) -> Option<(&'a str, Kind)> {
    let (stem, kind) = if let Some(stem) = name.strip_suffix(COMPRESSED) {
        (stem, Kind::Compressed)
    } else if let Some(stem) = name.strip_suffix(UNFINISHED) {
        (stem, Kind::Unfinished)
    } else {
        (name, Kind::Plain)
    };
    let stamp = stem.strip_prefix(log)?.strip_prefix('.')?;
    let (day, time) = stamp.split_once('-')?;
    let digits = |it: &str, count| it.len() == count && it.bytes().all(|it| it.is_ascii_digit());
    (digits(day, 8) && digits(time, 6)).then_some((stem, kind))
}

/// Removes and compresses so that `keep` rotated files are left. What could not be compressed stays as it is.
/// Blocking; the first failure is told when all has been tried.
pub(super) fn tidy_up(log: &Path, keep: usize) -> io::Result<()> {
    let Some((folder, name)) = parts(log) else { return Ok(()) };
    let plan = tidy(name, &names(folder)?, keep);
    let removed = plan.remove.iter().map(|it| fs::remove_file(folder.join(it)));
    let failed = removed.filter_map(Result::err).find(|it| it.kind() != io::ErrorKind::NotFound);
    let compressed: Vec<io::Result<()>> = plan.compress.iter().map(|it| compress(&folder.join(it))).collect();
    failed.map_or(Ok(()), Err).and(compressed.into_iter().collect())
}

/// Makes `<file>.gz` of a file, and removes the file once that is whole.
fn compress(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let unfinished = with(UNFINISHED);
    let outcome = pack(path, &unfinished).and_then(|()| fs::rename(&unfinished, with(COMPRESSED)));
    if outcome.is_err() {
        // Half a file is of no use, least of all on a full disk.
        let _ = fs::remove_file(&unfinished);
        return outcome;
    }
    fs::remove_file(path)
}

fn pack(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mode = from.metadata()?.mode() & 0o7777;
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(to)?;
    let mut packed = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut packed)?;
    packed.finish().map(drop)
}

/// Removes a log with all its rotated files. One that is gone is no error. Blocking.
pub fn remove_all(log: &Path) -> io::Result<()> {
    let Some((folder, name)) = parts(log) else { return Ok(()) };
    let names = match names(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let of_log = |it: &&String| *it == name || rotated_name(name, it).is_some();
    let removed = names.iter().filter(of_log).map(|it| fs::remove_file(folder.join(it)));
    removed.filter_map(Result::err).find(|it| it.kind() != io::ErrorKind::NotFound).map_or(Ok(()), Err)
}

/// The file that follows the one of this device and inode: the next rotated one that is not compressed yet, or the log
/// itself. Of a file that is gone already it is the oldest that was written to since `modified` (seconds). Blocking.
pub(crate) fn rotated_after(log: &Path, (dev, ino): (u64, u64), modified: i64) -> PathBuf {
    let Some((folder, name)) = parts(log) else { return log.to_owned() };
    let mut names = names(folder).unwrap_or_default();
    names.retain(|it| rotated_name(name, it).is_some_and(|(_, kind)| kind == Kind::Plain));
    names.sort();
    let files: Vec<(PathBuf, fs::Metadata)> = names
        .iter()
        .map(|it| folder.join(it))
        .filter_map(|path| fs::metadata(&path).ok().map(|it| (path, it)))
        .collect();
    let next = match files.iter().position(|(_, it)| (it.dev(), it.ino()) == (dev, ino)) {
        Some(ours) => files.get(ours + 1),
        None => files.iter().find(|(_, it)| it.mtime() > modified),
    };
    next.map_or_else(|| log.to_owned(), |(path, _)| path.clone())
}

fn parts(log: &Path) -> Option<(&Path, &str)> {
    Some((log.parent()?, log.file_name()?.to_str()?))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const A: &str = "0.log.20260101-000001";
    const B: &str = "0.log.20260101-000002";
    const C: &str = "0.log.20260101-000003";

    #[track_caller]
    fn check(names: &[&str], keep: usize, remove: &[&str], compress: &[&str]) {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let got = tidy("0.log", &names, keep);
        assert_eq!((got.remove, got.compress), (owned(remove), owned(compress)), "{names:?} keep {keep}");
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn what_stays() {
        let gz = |it: &str| format!("{it}.gz");
        check(&["0.log"], 4, &[], &[]);
        check(&["0.log", A], 4, &[], &[]);
        check(&["0.log", A, B], 4, &[], &[A]);
        check(&["0.log", &gz(A), B, C], 4, &[], &[B]);
        check(&["0.log", &gz(A), B, C], 2, &[&gz(A)], &[B]);
        check(&["0.log", A, B, C], 1, &[B, A], &[]);
        // A crash between the two steps of a compression, and in the middle of the first.
        check(&["0.log", A, &gz(A), B], 4, &[A], &[]);
        check(&["0.log", A, &format!("{A}.tmp"), B], 4, &[&format!("{A}.tmp")], &[A]);
        // Files of others.
        check(
            &["0.log", "1.log", "10.log.20260101-000001", "0.log.old", "0.log.gz", "0.log.2026"],
            0,
            &[],
            &[],
        );
    }

    #[test]
    fn files_are_compressed_and_all_of_them_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |it: &str| folder.path().join(it);
        for (name, text) in [("0.log", "new"), (A, "first"), (B, "second"), ("10.log", "other")] {
            fs::write(path(name), text).unwrap();
        }
        tidy_up(&path("0.log"), 4).unwrap();
        let mut text = String::new();
        let packed = File::open(path(&format!("{A}.gz"))).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
        assert!(!path(A).exists() && path(B).exists());
        remove_all(&path("0.log")).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|it| it.file_name()).collect();
        assert_eq!(left, ["10.log"]);
        remove_all(&folder.path().join("none/0.log")).unwrap();
    }

    #[test]
    fn one_file_follows_another() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        for name in ["0.log", A, B] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let id = |name: &str| {
            let it = fs::metadata(folder.path().join(name)).unwrap();
            (it.dev(), it.ino())
        };
        assert_eq!(rotated_after(&log, id(A), 0), folder.path().join(B));
        assert_eq!(rotated_after(&log, id(B), 0), log);
        assert_eq!(rotated_after(&log, (0, 0), i64::MAX), log);
        assert_eq!(rotated_after(&log, (0, 0), 0), folder.path().join(A));
    }
}
