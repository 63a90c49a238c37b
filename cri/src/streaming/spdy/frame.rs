//! Frames as bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{Deflate, Headers, Inflate};

/// Both kinds of frames begin with eight bytes.
const HEAD: usize = 8;
/// The longest frame accepted; peers of this field write 32 KiB at most.
const MAX_FRAME: usize = 4 << 20;
const FIN: u8 = 1;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream; the last good one for GOAWAY, the id for PING, else 0.
    pub stream: u32,
    /// Whether the sender's side of the stream ends with it.
    pub fin: bool,
    /// What it says.
    pub kind: Kind,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a stream.
    Data(Bytes),
    /// A new stream.
    Open(Headers),
    /// The other side knows the stream.
    Reply(Headers),
    /// The stream ends at once, both ways, for this reason.
    Reset(u32),
    /// To be sent back as it is.
    Ping,
    /// No new streams: the connection is about to end.
    GoAway,
    /// More headers of a stream.
    Headers(Headers),
    /// Settings, window updates and what else means nothing here.
    Ignored,
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Takes the next frame off `buffer`; `None` when it is not whole yet.
pub(super) fn decode(buffer: &mut BytesMut, inflate: &mut Inflate) -> Result<Option<Frame>, SpdyError> {
    let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > MAX_FRAME {
        return Err(SpdyError::Long(length));
    }
    if buffer.len() < HEAD + length {
        buffer.reserve(HEAD + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEAD);
    let body = buffer.split_to(length).freeze();
    let fin = flags & FIN != 0;
    if word >> 31 == 0 {
        return Ok(Some(Frame { stream: word, fin, kind: Kind::Data(body) }));
    }
    let [version, kind] =
        [word >> 16 & 0x7fff, word & 0xffff].map(|it| u16::try_from(it).unwrap_or_default());
    if version != 3 {
        return Err(SpdyError::Version(version));
    }
    control(kind, fin, body, inflate).map(Some)
}

fn control(kind: u16, fin: bool, mut body: Bytes, inflate: &mut Inflate) -> Result<Frame, SpdyError> {
    let needs = match kind {
        SYN_STREAM => 10,
        RST_STREAM => 8,
        SYN_REPLY | PING | GOAWAY | HEADERS => 4,
        _ => return Ok(Frame { stream: 0, fin: false, kind: Kind::Ignored }),
    };
    if body.len() < needs {
        return Err(SpdyError::Short { kind, length: body.len() });
    }
    // The top bit of an id is reserved.
    let stream = body.get_u32() & 0x7fff_ffff;
    let kind = match kind {
        SYN_STREAM => {
            body.advance(6);
            Kind::Open(inflate.block(&body)?)
        }
        SYN_REPLY => Kind::Reply(inflate.block(&body)?),
        HEADERS => Kind::Headers(inflate.block(&body)?),
        RST_STREAM => Kind::Reset(body.get_u32()),
        PING => Kind::Ping,
        _ => Kind::GoAway,
    };
    Ok(Frame { stream, fin, kind })
}

/// Appends a frame to `out`.
pub(super) fn encode(frame: &Frame, deflate: &mut Deflate, out: &mut BytesMut) -> Result<(), SpdyError> {
    let flags = if frame.fin { FIN } else { 0 };
    let (kind, body) = match &frame.kind {
        Kind::Data(bytes) => {
            out.put_u32(frame.stream & 0x7fff_ffff);
            put_length(out, flags, bytes.len())?;
            out.put_slice(bytes);
            return Ok(());
        }
        Kind::Open(headers) => {
            let mut body = vec![0; 6];
            body.extend(deflate.block(headers)?);
            (SYN_STREAM, body)
        }
        Kind::Reply(headers) => (SYN_REPLY, deflate.block(headers)?),
        Kind::Headers(headers) => (HEADERS, deflate.block(headers)?),
        Kind::Reset(status) => (RST_STREAM, status.to_be_bytes().to_vec()),
        Kind::Ping => (PING, Vec::new()),
        Kind::GoAway => (GOAWAY, vec![0; 4]),
        Kind::Ignored => return Ok(()),
    };
    out.put_u16(0x8003);
    out.put_u16(kind);
    put_length(out, flags, body.len() + 4)?;
    out.put_u32(frame.stream & 0x7fff_ffff);
    out.put_slice(&body);
    Ok(())
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) -> Result<(), SpdyError> {
    if length > MAX_FRAME {
        return Err(SpdyError::Long(length));
    }
    let word = u32::from(flags) << 24 | u32::try_from(length).unwrap_or_default();
    out.put_u32(word);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> BytesMut {
        let digits: Vec<u8> =
            text.chars().filter_map(|it| it.to_digit(16)).map(|it| u8::try_from(it).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn check(bytes: &str, stream: u32, fin: bool, kind: Kind) {
        let mut buffer = hex(bytes);
        let frame = Frame { stream, fin, kind };
        assert_eq!(decode(&mut buffer, &mut Inflate::new()).unwrap(), Some(frame.clone()), "{bytes}");
        assert!(buffer.is_empty());
        let mut out = BytesMut::new();
        encode(&frame, &mut Deflate::new(), &mut out).unwrap();
        if frame.kind != Kind::Ignored {
            assert_eq!(out, hex(bytes), "{frame:?}");
        }
    }

    #[test]
    fn frames_have_the_protocols_bytes() {
        check("00000005 00 000002 6869", 5, false, Kind::Data(Bytes::from_static(b"hi")));
        check("00000003 01 000000", 3, true, Kind::Data(Bytes::new()));
        check("80030003 00 000008 00000007 00000005", 7, false, Kind::Reset(5));
        check("80030006 00 000004 00000001", 1, false, Kind::Ping);
        check("80030007 00 000008 00000009 00000000", 9, false, Kind::GoAway);
        check("80030004 01 00000c 00000001 0000000400000064", 0, false, Kind::Ignored);
        check("80030009 00 000008 00000001 00010000", 0, false, Kind::Ignored);
    }

    #[test]
    fn what_is_no_frame_is_refused_by_name() {
        let refused = |bytes: &str| decode(&mut hex(bytes), &mut Inflate::new()).unwrap_err().to_string();
        assert_eq!(refused("80020006 00 000004 00000001"), "frame of version 2, not 3");
        assert_eq!(refused("80030006 00 000002 0000"), "frame of kind 6 with 2 bytes is too short");
        assert_eq!(refused("00000001 00 ffffff"), "frame of 16777215 bytes is too long");
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        let headers = || proptest::collection::vec(("[a-z]{1,12}", "[ -~]{0,30}"), 0..4);
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(|it| Kind::Data(it.into())),
            headers().prop_map(Kind::Open),
            headers().prop_map(Kind::Reply),
            headers().prop_map(Kind::Headers),
            any::<u32>().prop_map(Kind::Reset),
            Just(Kind::Ping),
            Just(Kind::GoAway),
        ]
    }

    proptest! {
        #[test]
        fn a_conversation_survives_any_cutting(
            frames in proptest::collection::vec((1u32..0x7fff_ffff, any::<bool>(), kinds()), 1..12), cut in 1usize..40,
        ) {
            let frames: Vec<Frame> =
                frames.into_iter().map(|(stream, fin, kind)| Frame { stream, fin, kind }).collect();
            let (mut deflate, mut out) = (Deflate::new(), BytesMut::new());
            for frame in &frames {
                encode(frame, &mut deflate, &mut out).unwrap();
            }
            let (mut inflate, mut buffer, mut seen) = (Inflate::new(), BytesMut::new(), Vec::new());
            for piece in out.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decode(&mut buffer, &mut inflate).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn rubbish_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            let mut inflate = Inflate::new();
            while let Ok(Some(_)) = decode(&mut buffer, &mut inflate) {}
        }
    }
}
