//! What benches over the wire share: the gateway's own binary, a client that asks and waits, a service that answers at once, tokens, and
//! what the kernel says of the gateway's time.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use stepgate::{
    clock::{Clock, SystemClock},
    config::Materials,
    runtime::DiskMaterials,
};

/// What signs tokens.
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// What seals the store.
pub(crate) const SEALING: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How many requests a round has.
pub(crate) const REQUESTS: usize = 2_000;

/// A gateway that ends with the run.
pub(crate) struct Gateway(pub(crate) Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Gateway {
    /// Starts it on the configuration of a folder.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        gateway.args(["run", "gateway.yaml"]).current_dir(folder).env("SECRET", text(SECRET)).env("SEALING", SEALING);
        Some(Self(gateway.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?))
    }
}

/// What was measured, in nanoseconds a request, of each round.
#[derive(Default)]
pub(crate) struct Figures {
    /// On a processor.
    pub(crate) busy: Vec<f64>,
    /// In all.
    pub(crate) took: Vec<f64>,
}

impl Figures {
    /// The medians of both.
    pub(crate) fn medians(mut self) -> Option<(f64, f64)> {
        Some((median(&mut self.busy)?, median(&mut self.took)?))
    }
}

/// How long the threads of a process have been on a processor, in nanoseconds: the first figure of their `schedstat`.
pub(crate) fn on_processor(process: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let one = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(threads.flatten().filter_map(one).sum())
}

/// The environment of the gateway that is to be.
pub(crate) struct Environment;

impl Materials for Environment {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        DiskMaterials.read_file(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        Some(if name == "SECRET" { text(SECRET) } else { SEALING.to_owned() })
    }
}

/// Sends a round of requests, one after the other.
pub(crate) fn requests(client: &mut TcpStream, path: &str, tokens: &[String]) -> Option<()> {
    let heads: Vec<String> = tokens
        .iter()
        .map(|token| format!("GET {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"))
        .collect();
    let mut buffer = [0; 4096];
    for head in heads.iter().cycle().take(REQUESTS) {
        client.write_all(head.as_bytes()).ok()?;
        let mut length = 0;
        while !buffer.get(..length)?.ends_with(b"\r\n\r\nok") {
            let read = client.read(buffer.get_mut(length..)?).unwrap_or_else(|fault| {
                eprintln!("{path}: {fault}");
                0
            });
            if read == 0 {
                eprintln!("{path}: the gateway closed the connection");
                return None;
            }
            length += read;
            if length >= 12 && !buffer.starts_with(b"HTTP/1.1 200") {
                eprintln!("{path}: {}", String::from_utf8_lossy(buffer.get(..length)?));
                return None;
            }
        }
    }
    Some(())
}

/// Waits until the gateway takes connections and serves.
pub(crate) fn connect(port: u16) -> Option<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_nodelay(true).ok()?;
            return Some(stream);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// A service that answers every request at once.
pub(crate) fn service() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Some(port)
}

fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = [0; 8192];
    let mut length = 0;
    loop {
        let read = stream.read(buffer.get_mut(length..)?).ok().filter(|read| *read > 0)?;
        length += read;
        if buffer.get(..length)?.ends_with(b"\r\n\r\n") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
            length = 0;
        }
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> Option<u16> {
    Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port())
}

/// The one in the middle.
pub(crate) fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A token of somebody.
pub(crate) fn token(number: usize) -> String {
    let now = SystemClock.now().unix_secs();
    let claims = json!({"iss": "https://idp.example/", "aud": "api", "sub": format!("user-{number}"), "exp": now + 3600,
        "iat": now, "client_id": "app", "scope": "items:read items:write", "amr": ["pwd"], "jti": format!("{number:032}")});
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "at+jwt"})), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}
