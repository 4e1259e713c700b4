//! An upstream that knows nothing of gateways: it keeps every byte that reaches it and answers as the test says.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use super::{PATIENCE, eventually};

/// A request as it reached the upstream.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The request line and headers, byte for byte, without the final empty line.
    pub head: String,
    /// The body, with chunking taken off.
    pub body: Vec<u8>,
    /// The trailer fields of a chunked body.
    pub trailers: String,
}

impl Recorded {
    /// The request line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The one value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "`{name}` should be there once:\n{}", self.head);
        all[0]
    }

    /// Whether a header is there, by a name folded as careless servers fold it.
    pub fn has(&self, name: &str) -> bool {
        let fold = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
        self.head.lines().skip(1).filter_map(|line| line.split_once(':')).any(|(n, _)| fold(n) == fold(name))
    }
}

/// How a recorder answers.
type Handler = dyn Fn(&Recorded, &mut TcpStream) -> bool + Send + Sync;

/// The upstream.
pub struct Recorder {
    pub port: u16,
    requests: Arc<Mutex<Vec<Recorded>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    /// Answers every request with 200 and `ok`.
    pub fn new() -> Self {
        Self::answering(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Upstream: recorder\r\nContent-Length: 2\r\n\r\nok",
        )
    }

    /// Answers every request with these bytes and keeps the connection.
    pub fn answering(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::with(move |request, stream| {
            let head_only = request.line().starts_with("HEAD ");
            let end = if head_only { answer.find("\r\n\r\n").unwrap() + 4 } else { answer.len() };
            stream.write_all(&answer.as_bytes()[..end]).is_ok()
        })
    }

    /// Answers as a function says, which gives whether the connection is kept.
    pub fn with(handler: impl Fn(&Recorded, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let handler: Arc<Handler> = Arc::new(handler);
        let requests: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let mut recorder = Self::raw(move |mut stream, bytes| {
            let mut reader = Reader { stream: stream.try_clone().unwrap(), pending: Vec::new(), bytes };
            while let Some(request) = reader.request(&mut stream) {
                kept.lock().unwrap().push(request.clone());
                if !handler(&request, &mut stream) {
                    break;
                }
            }
        });
        recorder.requests = requests;
        recorder
    }

    /// Hands each connection to a function, on a thread of its own, with the place where its bytes should be kept.
    pub fn raw(handler: impl Fn(TcpStream, Arc<Mutex<Vec<u8>>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (handler, kept) = (Arc::new(handler), Arc::clone(&bytes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_nodelay(true).unwrap();
                let (handler, kept) = (Arc::clone(&handler), Arc::clone(&kept));
                std::thread::spawn(move || handler(stream, kept));
            }
        });
        Self { port, requests: Arc::default(), bytes }
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Recorded {
        self.requests.lock().unwrap().last().cloned().expect("no request reached the upstream")
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Waits until so many requests were read.
    pub fn wait_for(&self, count: usize) -> Vec<Recorded> {
        eventually(&format!("{count} requests upstream"), || Some(self.requests()).filter(|r| r.len() >= count))
    }

    /// Every byte that was read, of finished requests or not.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Checks that not a byte of any request came.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let bytes = self.bytes();
        assert!(bytes.is_empty(), "something reached the upstream: {:?}", String::from_utf8_lossy(&bytes));
    }
}

struct Reader {
    stream: TcpStream,
    pending: Vec<u8>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Reader {
    fn request(&mut self, answers: &mut TcpStream) -> Option<Recorded> {
        let head = self.until(b"\r\n\r\n")?;
        let mut request =
            Recorded { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new(), trailers: String::new() };
        if request.all("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
            answers.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if request.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = self.until(b"\r\n")?;
                let size = String::from_utf8(size).ok()?;
                let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
                if size == 0 {
                    break;
                }
                let chunk = self.exactly(size)?;
                request.body.extend(chunk);
                self.exactly(2)?;
            }
            loop {
                let line = String::from_utf8(self.until(b"\r\n")?).ok()?;
                if line.is_empty() {
                    break;
                }
                request.trailers.push_str(&line);
                request.trailers.push('\n');
            }
        } else if let Some(length) = request.all("content-length").first() {
            request.body = self.exactly(length.parse().ok()?)?;
        }
        Some(request)
    }

    fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.pending.windows(mark.len()).position(|window| window == mark) {
                let found = self.pending[..end].to_vec();
                self.pending.drain(..end + mark.len());
                return Some(found);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.pending.len() < count {
            self.more()?;
        }
        Some(self.pending.drain(..count).collect())
    }

    fn more(&mut self) -> Option<()> {
        self.stream.set_read_timeout(Some(PATIENCE * 3)).ok()?;
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        self.pending.extend_from_slice(&buffer[..read]);
        self.bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
        Some(())
    }
}
