//! From a position to the end, line by line.

use std::io;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::LogOptions;
use super::line::Line;
use super::tail;

/// What is read and sent at a time.
const PIECE: usize = 32 << 10;
/// A line longer than this is given up: runtimes split at 16 KiB.
const LONGEST: usize = 1 << 20;

/// The writer of a log is done with a rotated file within this.
const SETTLES: Duration = Duration::from_millis(50);
/// Between two attempts to open a log that is just being rotated.
const ROTATES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(100)];

/// A log being read.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    options: LogOptions,
    raw: BytesMut,
    /// Whether the next text begins a line of the output.
    at_start: bool,
    sent: u64,
}

impl LogFile {
    /// Opens a log at the place where what is wanted begins.
    pub async fn open(path: PathBuf, options: &LogOptions) -> io::Result<Self> {
        let mut file = open(&path).await?;
        let begin = match options.tail {
            Some(lines) => tail::start(&mut file, lines).await?,
            None => 0,
        };
        file.seek(SeekFrom::Start(begin)).await?;
        Ok(Self { path, file, options: options.clone(), raw: BytesMut::new(), at_start: true, sent: 0 })
    }

    /// The next piece of output; `None` at the end of the file as it is now, or when the limit is reached.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_full() {
            let output = self.take();
            if !output.is_empty() {
                return Ok(Some(output));
            }
            if self.raw.len() > LONGEST {
                self.raw.clear();
            }
            self.raw.reserve(PIECE);
            if self.file.read_buf(&mut self.raw).await? == 0 {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether the limit of bytes is reached.
    pub fn is_full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.sent >= limit)
    }

    /// Goes on with the next file when the log was rotated. The old one must be at its end. Nothing that was written in
    /// between is left out, be it rotated again meanwhile, as long as it is not compressed.
    pub async fn rotated(&mut self) -> bool {
        let (Ok(new), Ok(old)) = (tokio::fs::metadata(&self.path).await, self.file.metadata().await) else {
            return false;
        };
        let read = self.file.stream_position().await.unwrap_or_default();
        if old.len() > read {
            // More was written while nobody looked: that comes first.
            return true;
        }
        if (new.dev(), new.ino()) == (old.dev(), old.ino()) {
            if new.len() < read {
                // Cut in place, as some rotators do.
                return self.file.seek(SeekFrom::Start(0)).await.is_ok();
            }
            return false;
        }
        // The runtime may still be writing out what it had at hand when it opened the new file.
        tokio::time::sleep(SETTLES).await;
        if self.file.metadata().await.is_ok_and(|it| it.len() > read) {
            return true;
        }
        let (path, of, modified) = (self.path.clone(), (old.dev(), old.ino()), old.mtime());
        let next = tokio::task::spawn_blocking(move || crate::log::rotated_after(&path, of, modified)).await;
        match File::open(next.as_ref().unwrap_or(&self.path)).await {
            Ok(file) => {
                self.file = file;
                true
            }
            Err(_gone_again) => false,
        }
    }

    /// The output of the whole lines read so far.
    fn take(&mut self) -> Bytes {
        let mut output = Vec::new();
        while let Some(end) = self.raw.iter().position(|byte| *byte == b'\n') {
            let raw = self.raw.split_to(end);
            self.raw.advance(1);
            let Some(line) = Line::parse(&raw) else { continue };
            let early = self.options.since.is_some_and(|since| line.at().is_some_and(|at| at < since));
            if early || self.options.stream.is_some_and(|stream| stream != line.stream) {
                continue;
            }
            if self.options.timestamps && self.at_start {
                output.extend_from_slice(line.time.as_bytes());
                output.push(b' ');
            }
            output.extend_from_slice(line.text);
            if !line.partial {
                output.push(b'\n');
            }
            self.at_start = !line.partial;
            if output.len() >= PIECE {
                break;
            }
        }
        if let Some(limit) = self.options.limit {
            let room = usize::try_from(limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            output.truncate(room);
        }
        self.sent += u64::try_from(output.len()).unwrap_or_default();
        output.into()
    }
}

/// For a moment in the middle of a rotation there is no log.
async fn open(path: &Path) -> io::Result<File> {
    for pause in ROTATES {
        match File::open(path).await {
            Err(err) if err.kind() == io::ErrorKind::NotFound => tokio::time::sleep(pause).await,
            outcome => return outcome,
        }
    }
    File::open(path).await
}
