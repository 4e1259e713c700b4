//! A load that lasts while everything changes under it: the configuration, certificates, services that end and come back, the process
//! itself. Nothing that the policy let through is lost, nothing happens twice, and memory stays where it was. Some seconds long among the
//! tests; `just soak` makes it as long as one likes (STEPGATE_SOAK_SECONDS).

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    Authority, Gateway, Wire, World, get,
    h2::{self, Ending, H2},
    lease_port, let_pass, post,
    websocket::{Socket, service},
};

#[test]
fn reloads_under_load_lose_no_request() {
    let seconds = std::env::var("STEPGATE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let world = World::new();
    let yaml = |marker: usize| {
        format!(
            "routes:\n  - {{path: /open/**, upstream: api, auth: none}}\n  - {{path: /x, upstream: api, auth: [main]}}\n  - {{path: /marker-{marker}, upstream: api, auth: none}}\n"
        )
    };
    let gateway = world.start(&yaml(0));
    let token = world.token(json!({"exp": crate::harness::unix_now() + 600 + seconds}));
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (gateway, token, done, served) = (&gateway, &token, &done, &served);
            scope.spawn(move || {
                let mut wire = gateway.connect();
                for n in 0_usize.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    // Half keep their connection, half make a new one each time.
                    if client % 2 == 0 {
                        wire = gateway.connect();
                    }
                    let request = if n % 2 == 0 {
                        get("/open/x")
                    } else {
                        get("/x").header("Authorization", &format!("Bearer {token}"))
                    };
                    request.send_on(&mut wire).expect(200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        let mut reloads = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            reloads += 1;
            world.configure(&yaml(reloads));
            gateway.signal("HUP");
            let_pass(Duration::from_millis(150));
        }
        done.store(true, Ordering::Relaxed);
    });
    let served = served.load(Ordering::Relaxed);
    assert!(served >= 500, "{served}");
    assert!(gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]) >= 3.0);
    assert_eq!(gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]), 0.0);
    assert_eq!(gateway.metric("stepgate_requests_total", &["status=\"2xx\""]), served as f64);
}

/// A service that can be ended, connections and all, and started again on its port. It notes how often each thing was done.
struct Mortal {
    port: u16,
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
    fn new() -> Self {
        let mut mortal = Self { port: lease_port(), seen: Arc::default(), running: None };
        mortal.start();
        mortal
    }

    fn start(&mut self) {
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

    fn end(&mut self) {
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

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// What clients count.
#[derive(Default)]
struct Counts {
    done: AtomicBool,
    gets: AtomicUsize,
    posts: AtomicUsize,
    failed_posts: AtomicUsize,
    streams: AtomicUsize,
    sockets: AtomicUsize,
}

/// Ends the clients, also where something is not as it should be.
struct Done<'a>(&'a Counts);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

fn is_last(answer: &crate::harness::Answer) -> bool {
    answer.all("connection") == ["close"]
}

fn gets(gateway: &Gateway, counts: &Counts) {
    let mut wire = None;
    while !counts.done.load(Ordering::Relaxed) {
        let open: &mut Wire = wire.get_or_insert_with(|| gateway.connect());
        let answer = get("/get").send_on(open).expect(200);
        counts.gets.fetch_add(1, Ordering::Relaxed);
        if is_last(&answer) {
            wire = None;
        }
    }
}

/// What a service that ended in the middle of it did is not known, so that nothing is sent again: it fails, or was done once.
fn posts(gateway: &Gateway, counts: &Counts, client: usize) -> Vec<(String, bool)> {
    let body = "x".repeat(100_000);
    let mut sent = Vec::new();
    let mut wire = None;
    while !counts.done.load(Ordering::Relaxed) {
        let open: &mut Wire = wire.get_or_insert_with(|| gateway.connect());
        let target = format!("/post/{client}-{}", sent.len());
        let answer = post(&target, &body).send_on(open);
        assert!([200, 502, 503].contains(&answer.status), "{answer:?}");
        let done = answer.status == 200;
        let count = if done { &counts.posts } else { &counts.failed_posts };
        count.fetch_add(1, Ordering::Relaxed);
        if is_last(&answer) || !done {
            wire = None;
        }
        sent.push((target, done));
    }
    sent
}

fn streams(gateway: &Gateway, authority: &Authority, counts: &Counts) {
    while !counts.done.load(Ordering::Relaxed) {
        let mut client = H2::over(Wire::tls(gateway.tls, "one.example", &authority.client(&["h2"])).unwrap());
        for number in 0..200_u32 {
            let stream = 2 * number + 1;
            client.request(stream, &h2::get("/get"));
            match client.status(stream) {
                Ending::Status(200) => counts.streams.fetch_add(1, Ordering::Relaxed),
                // A connection that was told to go may end before a stream that came after that (RFC 9113 section 6.8).
                Ending::Closed if number > 0 => break,
                other => panic!("{other:?}"),
            };
        }
    }
}

#[test]
fn nothing_is_lost_or_done_twice_while_everything_changes() {
    let seconds = std::env::var("STEPGATE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let world = World::with(service());
    let (mut one, mut two) = (Mortal::new(), Mortal::new());
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let ports = (one.port, two.port);
    let yaml = |marker: usize| {
        format!(
            "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - address: 127.0.0.1:<tls>
    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}
server: {{workers: 2, drain_timeout: 1h}}
upstreams:
  pair:
    targets: [http://127.0.0.1:{}, http://127.0.0.1:{}]
    retries: {{attempts: 3, on: [connect, reset], budget: 100%}}
  chat: {{targets: [http://127.0.0.1:<upstream>]}}
access_log: off
routes:
  - {{path: /chat, upstream: chat, auth: none, upgrade: [websocket]}}
  - {{path: /marker-{marker}, upstream: chat, auth: none}}
  - {{path: /**, upstream: pair, auth: none}}
",
            ports.0, ports.1
        )
    };
    let first = world.start(&yaml(0));
    let counts = Counts::default();
    let (sent, all, rss) = std::thread::scope(|scope| {
        let (gateway, authority, counts) = (&first, &authority, &counts);
        for _ in 0..3 {
            scope.spawn(move || gets(gateway, counts));
        }
        scope.spawn(move || streams(gateway, authority, counts));
        let posting: Vec<_> = (0..2).map(|client| scope.spawn(move || posts(gateway, counts, client))).collect();
        // One that was there before everything, and stays.
        let mut lasting = Socket::open(gateway.connect(), "/chat", "");
        let done = Done(counts);
        let (start, mut turn, mut rss) = (Instant::now(), 0_usize, Vec::new());
        let mut all: Vec<Gateway> = Vec::new();
        while start.elapsed() < Duration::from_secs(seconds) {
            turn += 1;
            let serving = all.last().unwrap_or(gateway);
            match turn % 5 {
                0 => {
                    rss.push(resident_kib(serving.pid()));
                    // The second half is one process's, so that what it would gather is seen.
                    if start.elapsed() < Duration::from_secs(seconds) / 2 {
                        let next = serving.succeed();
                        all.push(next);
                    }
                }
                1 => {
                    world.configure(&yaml(turn));
                    serving.signal("HUP");
                }
                2 => authority.server(world.folder(), "one", &["one.example"]),
                number => {
                    let mortal = if number == 3 { &mut one } else { &mut two };
                    mortal.end();
                    let_pass(Duration::from_millis(100));
                    mortal.start();
                }
            }
            lasting.talk("still there");
            Socket::open(gateway.connect(), "/chat", "").talk("and anew");
            counts.sockets.fetch_add(1, Ordering::Relaxed);
            let_pass(Duration::from_millis(250));
        }
        rss.push(resident_kib(all.last().unwrap_or(gateway).pid()));
        drop(done);
        let sent: Vec<_> = posting.into_iter().flat_map(|posting| posting.join().unwrap()).collect();
        (sent, all, rss)
    });
    let seen: Vec<_> = [&one, &two].map(|mortal| mortal.seen.lock().unwrap().clone()).into();
    for (target, done) in &sent {
        let times: usize = seen.iter().filter_map(|seen| seen.get(target)).sum();
        assert!(times <= 1 && (times == 1 || !done), "{target}: done {times} times, answered: {done}");
    }
    let [gets, posts, failed, streams, sockets] =
        [&counts.gets, &counts.posts, &counts.failed_posts, &counts.streams, &counts.sockets]
            .map(|count| count.load(Ordering::Relaxed));
    println!(
        "{seconds} s: {gets} GET, {posts} POST and {failed} that failed, {streams} streams, {sockets} sockets; {rss:?} KiB"
    );
    assert!(gets > 100 && posts > 20 && streams > 20 && sockets > 3);
    assert!(failed < posts / 2, "{failed} of {posts}");
    let (least, most) = (rss.iter().min().unwrap(), rss.iter().max().unwrap());
    assert!(*most <= 2 * least + 64 * 1024, "{rss:?} KiB");
    let refused = all.last().unwrap_or(&first).metric("stepgate_config_reloads_total", &["result=\"refused\""]);
    assert_eq!(refused, 0.0);
}
