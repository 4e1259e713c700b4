//! An identity provider's key endpoint with moods: it can be down, slow, wrong or hostile, and counts who asks.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{eventually, let_pass, ports};

/// What the endpoint does with a request.
#[derive(Debug, Clone)]
pub enum Mood {
    /// Answers with this JWK Set.
    Keys(Value),
    /// The same with a Cache-Control max-age in seconds.
    KeysFor(Value, u32),
    /// Answers with these bytes as they are.
    Says(String),
    /// Reads the request and never answers.
    Silent,
    /// Answers a byte now and then, so that no read ever times out.
    Drips,
    /// Answers with a body without an end.
    Floods,
}

/// The endpoint; it serves `/jwks` and, as discovery has it, `/.well-known/openid-configuration`.
pub struct Jwks {
    pub port: u16,
    mood: Arc<Mutex<Mood>>,
    hits: Arc<AtomicUsize>,
    up: Arc<AtomicBool>,
}

impl Jwks {
    /// An endpoint that is up and has these keys.
    pub fn new(keys: Value) -> Self {
        let jwks = Self::down(keys);
        jwks.go_up();
        jwks
    }

    /// An endpoint that nobody listens on yet.
    pub fn down(keys: Value) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Keys(keys)));
        Self { port: ports::lease(), mood, hits: Arc::default(), up: Arc::default() }
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/jwks", self.port)
    }

    /// The issuer that it speaks for when discovered.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many requests it saw.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Changes its mood.
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Starts to listen.
    pub fn go_up(&self) {
        let listener = eventually("the JWKS port to be free", || TcpListener::bind(("127.0.0.1", self.port)).ok());
        self.up.store(true, Ordering::SeqCst);
        let (mood, hits, up, issuer) =
            (Arc::clone(&self.mood), Arc::clone(&self.hits), Arc::clone(&self.up), self.issuer());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !up.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (mood, hits, issuer) = (Arc::clone(&mood), Arc::clone(&hits), issuer.clone());
                std::thread::spawn(move || serve(stream, &mood, &hits, &issuer));
            }
        });
    }

    /// Stops to listen: connections are refused.
    pub fn go_down(&self) {
        if self.up.swap(false, Ordering::SeqCst) {
            let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the thread, which then lets go of the socket
            eventually("the JWKS port to be refused", || TcpStream::connect(("127.0.0.1", self.port)).err());
        }
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.go_down();
    }
}

fn serve(mut stream: TcpStream, mood: &Mutex<Mood>, hits: &AtomicUsize, issuer: &str) {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    hits.fetch_add(1, Ordering::SeqCst);
    let mood = mood.lock().unwrap().clone();
    let discovery = head.starts_with(b"GET /.well-known/openid-configuration ");
    let answer = |body: String, more: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let text = match mood {
        Mood::Keys(_) | Mood::KeysFor(..) if discovery => {
            answer(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks")}).to_string(), "")
        }
        Mood::Keys(keys) => answer(keys.to_string(), ""),
        Mood::KeysFor(keys, seconds) => {
            answer(keys.to_string(), &format!("Cache-Control: public, max-age={seconds}\r\n"))
        }
        Mood::Says(text) => text,
        Mood::Silent => {
            let _ = stream.read(&mut buffer);
            return;
        }
        Mood::Drips => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                let_pass(Duration::from_millis(100));
            }
            return;
        }
        Mood::Floods => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"keys\":[");
            while stream.write_all(&[b' '; 16 * 1024]).is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes());
}
