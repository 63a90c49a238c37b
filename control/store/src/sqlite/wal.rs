//! The write-ahead log before SQLite reads it. SQLite takes a damaged frame for the end of the log, as after a crash,
//! and would silently forget every commit behind it. Here that is told from a crash: a commit is synced before the next
//! one begins, so frames of a later commit behind a bad frame mean that the disk has changed what was once safe.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The magic, up to its last bit, which gives the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;

/// Why the log cannot be trusted; `None` when it can.
pub fn damage(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut log = BufReader::with_capacity(64 * 1024, file);
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? || header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let magic = word(&header, 0);
    let mut sum = Sum { big_endian: magic & 1 == 1, value: (0, 0) };
    sum.add(&header[..24]);
    if magic & !1 != MAGIC || sum.value != (word(&header, 24), word(&header, 28)) {
        return Ok(Some("the header of the write-ahead log fails its checksum".to_owned()));
    }
    let page = word(&header, 8) as usize;
    if !(512..=65_536).contains(&page) {
        return Ok(Some(format!("the write-ahead log has pages of {page} bytes")));
    }
    frames(&mut log, &header, page, sum)
}

/// Walks the frames to the first bad one, and on from there for commits that should not be.
fn frames(
    log: &mut impl Read,
    header: &[u8; HEADER],
    page: usize,
    mut sum: Sum,
) -> std::io::Result<Option<String>> {
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut index, mut bad, mut commit_behind) = (0_u64, None, false);
    while fill(log, &mut frame)? {
        let ours = frame[8..16] == header[16..24];
        match bad {
            None => {
                sum.add(&frame[..8]);
                sum.add(&frame[FRAME_HEADER..]);
                if !ours || sum.value != (word(&frame, 16), word(&frame, 20)) {
                    bad = Some(index);
                    commit_behind = ours && word(&frame, 4) != 0;
                }
            }
            Some(at) if ours && commit_behind => {
                return Ok(Some(format!(
                    "frame {at} of the write-ahead log is damaged, and commits follow it"
                )));
            }
            Some(_) => commit_behind |= ours && word(&frame, 4) != 0,
        }
        index += 1;
    }
    Ok(None)
}

/// Fills the buffer; `false` when the file ends before.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The running checksum of the log.
struct Sum {
    big_endian: bool,
    value: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let read =
            |word: [u8; 4]| if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        let (pairs, _) = bytes.as_chunks::<8>();
        for [a, b, c, d, e, f, g, h] in pairs {
            self.value.0 = self.value.0.wrapping_add(read([*a, *b, *c, *d])).wrapping_add(self.value.1);
            self.value.1 = self.value.1.wrapping_add(read([*e, *f, *g, *h])).wrapping_add(self.value.0);
        }
    }
}
