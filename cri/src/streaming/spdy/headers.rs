//! Header blocks: names and values, compressed by one zlib stream per direction.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::dictionary;

/// Names (lower case) and values of a block, in order.
pub type Headers = Vec<(String, String)>;

/// A block may not grow beyond this when inflated.
const MAX_BLOCK: usize = 256 << 10;

/// Compresses blocks of one direction.
pub(super) struct Deflate(Compress);

/// Inflates blocks of one direction.
pub(super) struct Inflate(Decompress);

impl Deflate {
    pub fn new() -> Self {
        let mut stream = Compress::new(Compression::best(), true);
        // Fails only on a stream that has begun; without it, peers could not read a single block.
        stream.set_dictionary(&dictionary()).expect("a fresh stream takes a dictionary");
        Self(stream)
    }

    pub fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let plain = plain_block(headers);
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX).min(plain.len());
            let room = out.capacity() - out.len();
            self.0
                .compress_vec(&plain[done..], &mut out, FlushCompress::Sync)
                .map_err(|_broken| SpdyError::Headers("cannot be compressed"))?;
            let all_in = self.0.total_in() - start == u64::try_from(plain.len()).unwrap_or(u64::MAX);
            // A flush is complete when it left room in the output.
            if all_in && room > 0 && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(out.capacity().max(256));
        }
    }
}

fn plain_block(headers: &Headers) -> Vec<u8> {
    let length = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    let mut plain = length(headers.len()).to_vec();
    for (name, value) in headers {
        for text in [name, value] {
            plain.extend(length(text.len()));
            plain.extend(text.as_bytes());
        }
    }
    plain
}

impl Inflate {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn block(&mut self, compressed: &[u8]) -> Result<Headers, SpdyError> {
        read_block(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX).min(compressed.len());
            let before = (done, out.len());
            match self.0.decompress_vec(&compressed[done..], &mut out, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Ok(out),
                Err(err) if err.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_other| SpdyError::Headers("wants another dictionary"))?;
                    continue;
                }
                Err(_broken) => return Err(SpdyError::Headers("cannot be inflated")),
            }
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(usize::MAX);
            if consumed >= compressed.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() > MAX_BLOCK {
                return Err(SpdyError::Headers("inflates to too much"));
            }
            if before == (consumed, out.len()) && out.len() < out.capacity() {
                return Err(SpdyError::Headers("does not end"));
            }
            out.reserve(1024);
        }
    }
}

fn read_block(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = plain;
    let count = take_number(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?;
        headers.push((name, take_text(&mut rest)?));
    }
    Ok(headers)
}

fn take_number(rest: &mut &[u8]) -> Result<usize, SpdyError> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or(SpdyError::Headers("ends early"))?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*bytes)).map_err(|_too_big| SpdyError::Headers("ends early"))
}

fn take_text(rest: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_number(rest)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(SpdyError::Headers("ends early"))?;
    *rest = after;
    String::from_utf8(bytes.to_vec()).map_err(|_not_text| SpdyError::Headers("is not text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_block_announces_the_dictionary() {
        let block = Deflate::new().block(&vec![("streamtype".to_owned(), "error".to_owned())]).unwrap();
        assert_eq!(block[1] & 0x20, 0x20, "the zlib header says that there is a dictionary");
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    proptest! {
        #[test]
        fn blocks_come_back_one_after_another(blocks in proptest::collection::vec(proptest::collection::vec(("[a-z-]{1,20}", ".{0,200}"), 0..6), 1..8)) {
            let (mut deflate, mut inflate) = (Deflate::new(), Inflate::new());
            for block in blocks {
                prop_assert_eq!(inflate.block(&deflate.block(&block).unwrap()).unwrap(), block);
            }
        }

        #[test]
        fn rubbish_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inflate::new().block(&bytes);
            let _ = read_block(&bytes);
        }
    }
}
