//! HTTP/2 by hand (RFC 9113): frames as the test wants them, right or wrong. Header blocks are written as literals
//! without indexing or Huffman coding (RFC 7541 section 6.2.2), which every server must take.

use std::io;

use super::Wire;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status that a header block begins with.
    pub fn status(&self) -> u16 {
        status(&self.payload)
    }
}

/// An HTTP/2 connection.
pub struct H2 {
    pub wire: Wire,
}

impl H2 {
    /// Sends the preface and empty SETTINGS over a connection.
    pub fn over(mut wire: Wire) -> Self {
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut h2 = Self { wire };
        h2.frame(SETTINGS, 0, 0, &[]);
        h2
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.wire.send(encode_frame(kind, flags, stream, payload));
        self
    }

    /// Sends a whole request without a body.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &str)]) -> &mut Self {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
    }

    /// Reads a frame, acknowledging SETTINGS and PING on the way.
    pub fn next(&mut self) -> io::Result<Frame> {
        let head = self.wire.read_exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload: self.wire.read_exactly(length)? };
        if frame.flags & ACK == 0 && (frame.kind == SETTINGS || frame.kind == PING) {
            let payload = if frame.kind == PING { frame.payload.clone() } else { Vec::new() };
            self.frame(frame.kind, ACK, 0, &payload);
        }
        Ok(frame)
    }

    /// Reads until the stream has its headers and gives its status, or says how the stream or the connection ended.
    pub fn status(&mut self, stream: u32) -> Ending {
        loop {
            match self.next() {
                Ok(frame) if frame.kind == HEADERS && frame.stream == stream => {
                    return Ending::Status(status(&frame.payload));
                }
                Ok(frame) if frame.kind == RST_STREAM && frame.stream == stream => {
                    return Ending::Reset(code(&frame.payload));
                }
                Ok(frame) if frame.kind == GOAWAY && code(&frame.payload[4..]) != 0 => {
                    return Ending::GoAway(code(&frame.payload[4..]));
                }
                Ok(_) => {}
                Err(_) => return Ending::Closed,
            }
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

impl Ending {
    /// Whether the request was refused, in any of the ways there are.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Status(..400))
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}

/// A frame's bytes.
pub fn encode_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The fields of an ordinary GET.
pub fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "gateway.example")]
}

/// A header block of literals.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    // RFC 7541 section 5.1: a prefix of 7 bits, then groups of 7 bits, the least significant first.
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(text);
}

/// The `:status` at the start of a header block, which is all that the suites need of one.
fn status(block: &[u8]) -> u16 {
    let block = match block[0] {
        size if size & 0xe0 == 0x20 => &block[1..], // a change of the table's size comes first
        _ => block,
    };
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // A literal whose name is entry 8 to 14 of the static table: `:status`.
        name if matches!(name & 0x0f, 8..=14) => value(&block[1..]).parse().unwrap(),
        other => panic!("a header block that starts with {other:#x}: {block:?}"),
    }
}

/// A string of digits, Huffman-coded (RFC 7541 appendix B has `0` to `2` in five bits and `3` to `9` in six) or not.
fn value(block: &[u8]) -> String {
    let text = &block[1..1 + usize::from(block[0] & 0x7f)];
    if block[0] & 0x80 == 0 {
        return String::from_utf8(text.to_vec()).unwrap();
    }
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut at = 0;
    let mut digits = String::new();
    while digits.len() < 3 {
        let five = u8::from_str_radix(&bits[at..at + 5], 2).unwrap();
        if five <= 2 {
            digits.push(char::from(b'0' + five));
            at += 5;
        } else {
            let six = u8::from_str_radix(&bits[at..at + 6], 2).unwrap();
            digits.push(char::from(b'3' + (six - 0b01_1001)));
            at += 6;
        }
    }
    digits
}
