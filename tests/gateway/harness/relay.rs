//! A network between two programs, and its weather: bytes late, in pieces, held back, or a connection cut while they are on their way.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use socket2::SockRef;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// How late each piece is.
    pub delay: Duration,
    /// How long pieces are at most; 0: as they come.
    pub pieces: usize,
    /// Whether nothing passes. What was held back comes when it is fair again, as by a network that loses packets.
    pub lost: bool,
    /// After how many bytes of answers a connection is cut.
    pub cut_after: Option<usize>,
}

/// The relay. It is there until the test ends.
pub struct Relay {
    pub port: u16,
    sky: Arc<Sky>,
}

#[derive(Default)]
struct Sky {
    weather: Mutex<Weather>,
    changed: Condvar,
    /// Both ends of each connection.
    connections: Mutex<Vec<Arc<Pair>>>,
    made: AtomicUsize,
}

struct Pair {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
}

impl Relay {
    /// In front of a port, in fair weather.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), sky: Arc::default() };
        let sky = Arc::clone(&relay.sky);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                sky.join(client, server);
            }
        });
        relay
    }

    /// The weather from here on, for connections that there are as well.
    pub fn set(&self, weather: Weather) {
        *self.sky.weather.lock().unwrap() = weather;
        self.sky.changed.notify_all();
    }

    /// Cuts every connection that there is, without a word to either side but RST.
    pub fn cut(&self) {
        for pair in std::mem::take(&mut *self.sky.connections.lock().unwrap()) {
            pair.cut();
        }
        self.sky.changed.notify_all();
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.sky.made.load(SeqCst)
    }
}

impl Pair {
    fn cut(&self) {
        self.is_cut.store(true, SeqCst);
        for end in [&self.client, &self.server] {
            let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Sky {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        self.made.fetch_add(1, SeqCst);
        let pair = Arc::new(Pair { client, server, is_cut: AtomicBool::new(false) });
        self.connections.lock().unwrap().push(Arc::clone(&pair));
        for answers in [false, true] {
            let (sky, pair) = (Arc::clone(self), Arc::clone(&pair));
            std::thread::spawn(move || sky.carry(&pair, answers));
        }
    }

    /// Carries bytes one way until that way ends.
    fn carry(&self, pair: &Pair, answers: bool) {
        let (mut from, mut to) = if answers { (&pair.server, &pair.client) } else { (&pair.client, &pair.server) };
        let (mut buffer, mut carried) = ([0; 16 * 1024], 0);
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let mut bytes = &buffer[..read];
            while !bytes.is_empty() {
                let Some(weather) = self.passing(pair) else { return };
                let left =
                    weather.cut_after.filter(|_| answers).map_or(usize::MAX, |after| after.saturating_sub(carried));
                if left == 0 {
                    return pair.cut();
                }
                std::thread::sleep(weather.delay);
                let longest = if weather.pieces == 0 { usize::MAX } else { weather.pieces };
                let (piece, rest) = bytes.split_at(bytes.len().min(longest).min(left));
                if to.write_all(piece).is_err() {
                    return pair.cut();
                }
                (bytes, carried) = (rest, carried + piece.len());
            }
        }
    }

    /// Waits until something passes; `None` if the connection was cut.
    fn passing(&self, pair: &Pair) -> Option<Weather> {
        let is_held = |weather: &mut Weather| weather.lost && !pair.is_cut.load(SeqCst);
        let weather = *self.changed.wait_while(self.weather.lock().unwrap(), is_held).unwrap();
        (!pair.is_cut.load(SeqCst)).then_some(weather)
    }
}
