//! WebSocket by hand (RFC 6455): handshakes and frames as the test wants them, right or wrong, and a service that sends back what it
//! gets. What two libraries make of each other through the gateway is in tests/streams.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Finished, Process, Recorder, Wire, recorder::Recorded, run};

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The key of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What is to be answered to a key.
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// A handshake, with further lines, each with its end.
pub fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// The line of a token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A whole frame, masked as a client's is.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![0x80 | opcode];
    length(&mut bytes, payload.len(), 0x80);
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The same as a service sends it.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    length(&mut bytes, payload.len(), 0);
    bytes.extend(payload);
    bytes
}

fn length(bytes: &mut Vec<u8>, length: usize, bit: u8) {
    match length {
        0..126 => bytes.push(bit | length as u8),
        126..65536 => {
            bytes.push(bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
}

/// Reads a frame off something that reads exactly: its opcode and payload, unmasked.
pub fn read_frame(exactly: impl FnMut(usize) -> io::Result<Vec<u8>>) -> io::Result<(u8, Vec<u8>)> {
    read_part(exactly).map(|(first, payload)| (first & 0xf, payload))
}

/// The same with the whole first byte: a message may come in parts.
fn read_part(mut exactly: impl FnMut(usize) -> io::Result<Vec<u8>>) -> io::Result<(u8, Vec<u8>)> {
    let head = exactly(2)?;
    let length = match head[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(exactly(2)?.try_into().unwrap())),
        127 => u64::from_be_bytes(exactly(8)?.try_into().unwrap()),
        short => u64::from(short),
    };
    let mask = if head[1] & 0x80 != 0 { exactly(4)? } else { vec![0; 4] };
    let payload = exactly(length as usize)?;
    Ok((head[0], payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
}

/// What a Close frame says: the code, and the reason.
pub fn closing((opcode, payload): (u8, Vec<u8>)) -> (u16, String) {
    assert_eq!(opcode, CLOSE, "{payload:?}");
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].to_vec()).unwrap())
}

/// A client's end of an open WebSocket.
pub struct Socket(pub Wire);

impl Socket {
    /// Opens one over a connection; panics if that is refused.
    #[track_caller]
    pub fn open(mut wire: Wire, path: &str, more: &str) -> Self {
        wire.send(handshake(path, more));
        let (status, headers) = wire.head().unwrap();
        assert_eq!(status, 101, "{headers:?}");
        let value =
            |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_lowercase());
        assert_eq!(value("sec-websocket-accept"), Some(accept(KEY).to_lowercase()));
        assert_eq!((value("upgrade").as_deref(), value("connection").as_deref()), (Some("websocket"), Some("upgrade")));
        Self(wire)
    }

    /// Sends a frame.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> &mut Self {
        self.0.send(frame(opcode, payload));
        self
    }

    /// Reads a frame.
    pub fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        read_frame(|count| self.0.read_exactly(count))
    }

    /// Says something and reads it again.
    #[track_caller]
    pub fn talk(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
        assert_eq!(self.read().unwrap(), (TEXT, text.as_bytes().to_vec()));
    }

    /// How the gateway or the service closes it: the Close frame, with nothing after it.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let said = closing(self.read().unwrap());
        assert!(self.0.is_closed(), "something follows the Close frame");
        said
    }
}

/// Answers a handshake as a service does.
pub fn switch(stream: &mut TcpStream, key: &str, more: &str) {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{more}\r\n",
        accept(key)
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

/// A service that sends back what it gets; other requests it answers with `ok`.
pub fn service() -> Recorder {
    service_saying(|_| {})
}

/// The same; each frame that is not sent back (a Close) is told to somebody.
pub fn service_saying(told: impl Fn((u8, Vec<u8>)) + Send + Sync + 'static) -> Recorder {
    Recorder::with(move |request, stream| {
        let keys = request.all("sec-websocket-key");
        if request.all("upgrade") != ["websocket"] {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok();
        }
        send_back(stream, keys[0], &told);
        false
    })
}

/// Answers a request's handshake and sends back what comes.
pub fn serve(request: &Recorded, stream: &mut TcpStream) {
    send_back(stream, request.header("sec-websocket-key"), &|_| {});
}

fn send_back(stream: &mut TcpStream, key: &str, told: &dyn Fn((u8, Vec<u8>))) {
    switch(stream, key, "");
    let exactly = |count: usize, stream: &mut TcpStream| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    while let Ok((first, payload)) = read_part(|count| exactly(count, stream)) {
        let opcode = first & 0xf;
        if opcode == CLOSE {
            told((opcode, payload.clone()));
        }
        let mut frame = unmasked(if opcode == PING { PONG } else { opcode }, &payload);
        frame[0] = frame[0] & 0xf | first & 0xf0;
        if stream.write_all(&frame).is_err() || opcode == CLOSE {
            break;
        }
    }
}

/// A library's service, with what it says of its connections.
pub struct Peer {
    process: Process,
    pub port: u16,
}

impl Peer {
    /// ws, by its npm package.
    pub fn ws() -> Self {
        Self::start(Command::new("node").arg(script("server.mjs")))
    }

    /// websockets, by its PyPI package.
    pub fn websockets() -> Self {
        Self::start(python().arg(script("server.py")))
    }

    fn start(command: &mut Command) -> Self {
        let mut process = Process::spawn_listening(command);
        let port = process.wait_for_line("ready ").trim_start_matches("ready ").trim().parse().unwrap();
        Self { process, port }
    }

    /// Waits for a connection that ended like this.
    pub fn closed(&mut self, how: &str) {
        self.process.wait_for_line(&format!("closed {how}"));
    }
}

/// A client on ws that says everything that there is to be said, to a service that sends it back.
pub fn ws_client(url: &str, token: &str, compressed: bool) -> Finished {
    client(Command::new("node").arg(script("client.mjs")), url, token, compressed)
}

/// The same on websockets.
pub fn websockets_client(url: &str, token: &str, compressed: bool) -> Finished {
    client(python().arg(script("client.py")), url, token, compressed)
}

fn client(command: &mut Command, url: &str, token: &str, compressed: bool) -> Finished {
    run(command.args([url, token, if compressed { "compressed" } else { "plain" }]), "")
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(name)
}

fn python() -> Command {
    let python = script(".venv/bin/python");
    assert!(python.exists(), "websockets is not installed: run `./test setup`");
    Command::new(python)
}
