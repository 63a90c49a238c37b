//! One line of the format: `2026-11-20T21:54:14.123456789Z stdout F text`.

use jiff::Timestamp;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Its time as written.
    pub time: &'a str,
    /// Where it was written.
    pub stream: Stream,
    /// Whether the text goes on in the next line of the stream.
    pub partial: bool,
    /// What was written, without an end of line.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line (without its newline) apart; `None` when it has another form.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let mut parts = raw.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Tags are separated by colons; the first one says whether the line is whole.
        let tags = parts.next()?;
        let partial = match tags.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time, stream, partial, text: parts.next().unwrap_or_default() })
    }

    /// When it was written.
    pub fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}
