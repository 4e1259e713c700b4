//! A service that ends and comes back.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A service that can be ended, connections and all, and started again on its port. It notes how often each thing was done.
pub struct Mortal {
    pub port: u16,
    seen: Arc<Mutex<HashMap<String, usize>>>,
    running: Option<Life>,
}

/// What a service has while it runs.
struct Life {
    ended: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Mortal {
    /// One that runs.
    pub fn new() -> Self {
        let mut mortal = Self { port: super::lease_port(), seen: Arc::default(), running: None };
        mortal.start();
        mortal
    }

    /// Starts it on its port.
    pub fn start(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let (ended, open, seen) =
            (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default(), self.seen.clone());
        let (flag, kept) = (ended.clone(), open.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                let seen = seen.clone();
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        self.running = Some(Life { ended, open, thread });
    }

    /// Ends it: from here on nobody listens, and what was open is closed.
    pub fn end(&mut self) {
        let Some(Life { ended, open, thread }) = self.running.take() else { return };
        ended.store(true, Ordering::Relaxed);
        // Wakes who accepts, who then sees that it is over; after that nobody listens.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        thread.join().unwrap();
        for stream in open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Mortal {
    /// How often a thing was done.
    pub fn times(&self, target: &str) -> usize {
        self.seen.lock().unwrap().get(target).copied().unwrap_or_default()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads requests whole and answers each with 200.
fn serve(mut stream: TcpStream, seen: &Mutex<HashMap<String, usize>>) {
    stream.set_nodelay(true).unwrap();
    let mut pending = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let head_end = loop {
            if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => pending.extend_from_slice(&buffer[..count]),
            }
        };
        let head = String::from_utf8_lossy(&pending[..head_end]).into_owned();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map(|(_, value)| value.trim().parse().unwrap()).next().unwrap_or(0);
        while pending.len() < head_end + length {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => pending.extend_from_slice(&buffer[..count]),
            }
        }
        pending.drain(..head_end + length);
        if head.starts_with("POST ") {
            *seen.lock().unwrap().entry(head.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}
