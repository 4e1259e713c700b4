//! A load that lasts while everything changes under it: the configuration, certificates, services that end and come back, the process
//! itself. Nothing that the policy let through is lost, nothing happens twice, and memory stays where it was. Some seconds long among the
//! tests; `just soak` makes it as long as one likes (STEPGATE_SOAK_SECONDS).

use std::{
    collections::HashSet,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    Answer, Authority, Gateway, Mortal, Recorder, Request, Wire, World, eventually, get,
    h2::{self, H2},
    let_pass, post, unix_now,
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
        let _ended = Done(&done);
        let start = Instant::now();
        let mut reloads = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            reloads += 1;
            world.configure(&yaml(reloads));
            gateway.signal("HUP");
            let_pass(Duration::from_millis(150));
        }
    });
    let served = served.load(Ordering::Relaxed);
    assert!(served >= 500, "{served}");
    assert!(gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]) >= 3.0);
    assert_eq!(gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]), 0.0);
    assert_eq!(gateway.metric("stepgate_requests_total", &["status=\"2xx\""]), served as f64);
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Clients of each kind: so many that the gateway's two workers have something to do at any moment.
const GETTING: usize = 24;
const POSTING: usize = 4;
const STREAMING: usize = 4;

/// By how much memory may grow from the middle third of one process's half of the soak to the last one.
const GROWTH_KIB: u64 = 8 * 1024;

/// A token is good for so long after its end (`leeway`).
const LEEWAY: u64 = 30;

/// What clients share and count.
struct Scene<'a> {
    gateway: &'a Gateway,
    authority: &'a Authority,
    /// One that lasts, and one that ends halfway.
    tokens: [String; 2],
    /// When the second one is good no more.
    ends: u64,
    done: AtomicBool,
    gets: AtomicUsize,
    streams: AtomicUsize,
    not_taken: AtomicUsize,
    /// What the second token was let through and refused.
    allowed: AtomicUsize,
    refused: AtomicUsize,
}

/// Ends the clients, also where something is not as it should be.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client over HTTP/1.1, which keeps its connection for as long as it is let.
struct Client<'a> {
    gateway: &'a Gateway,
    wire: Option<Wire>,
}

impl<'a> Client<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        Self { gateway, wire: None }
    }

    fn ask(&mut self, request: &Request) -> Answer {
        let wire = self.wire.get_or_insert_with(|| self.gateway.connect());
        let answer = request.send_on(wire);
        if answer.all("connection") == ["close"] || answer.status >= 500 {
            self.wire = None;
        }
        answer
    }
}

impl Scene<'_> {
    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// Everybody may, or who has the token that lasts.
    fn get(&self, is_private: bool) {
        let mut client = Client::new(self.gateway);
        let request = if is_private { get("/private/get").bearer(&self.tokens[0]) } else { get("/get") };
        while self.goes_on() {
            client.ask(&request).expect(200);
            self.gets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who has the token that ends is let through until then, and not a second longer.
    fn get_until_it_ends(&self) {
        let mut client = Client::new(self.gateway);
        let request = get("/private/get").bearer(&self.tokens[1]);
        while self.goes_on() {
            let before = unix_now();
            let answer = client.ask(&request);
            let after = unix_now();
            // A whole second about it: the gateway reads its clock at some time between.
            let expected: &[u16] = match () {
                () if after < self.ends => &[200],
                () if before > self.ends => &[401],
                () => &[200, 401],
            };
            assert!(expected.contains(&answer.status), "{before} {after} {}: {answer:?}", self.ends);
            let count = if answer.status == 200 { &self.allowed } else { &self.refused };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What a service that ended in the middle of it did is not known, so that nothing is sent again: it fails, or was done once.
    fn post(&self, client: usize) -> Vec<Sent> {
        let body = "x".repeat(100_000);
        let mut sent = Vec::new();
        let mut wire = Client::new(self.gateway);
        while self.goes_on() {
            let target = format!("/post/{client}-{}", sent.len());
            let from = Instant::now();
            let answer = wire.ask(&post(&target, &body));
            assert!([200, 502, 503].contains(&answer.status), "{answer:?}");
            sent.push(Sent { target, done: answer.status == 200, from, to: Instant::now() });
        }
        sent
    }

    fn stream(&self, number: usize) {
        let token = format!("Bearer {}", self.tokens[0]);
        let private = [&h2::get("/private/get")[..], &[("authorization", &*token)]].concat();
        let requests = [h2::get("/get"), private];
        while self.goes_on() {
            let config = self.authority.client(&["h2"]);
            let mut client = Going::over(Wire::tls(self.gateway.tls, "one.example", &config).unwrap());
            for turn in 0..100 {
                if !self.goes_on() || client.last.is_some() {
                    break;
                }
                let (taken, left) = client.ask(&requests[(number + turn) % 2], 4);
                self.streams.fetch_add(taken, Ordering::Relaxed);
                self.not_taken.fetch_add(left, Ordering::Relaxed);
            }
        }
    }
}

/// A POST, and when.
struct Sent {
    target: String,
    done: bool,
    from: Instant,
    to: Instant,
}

/// A connection over HTTP/2 that holds the server to what GOAWAY promises (RFC 9113 section 6.8): what it has taken it answers, to the
/// end, and no connection ends without one.
struct Going {
    h2: H2,
    next: u32,
    /// The last stream that was taken, once that is said.
    last: Option<u32>,
}

impl Going {
    fn over(wire: Wire) -> Self {
        Self { h2: H2::over(wire), next: 1, last: None }
    }

    /// Sends so many requests at once; gives how many were answered, and how many the server has not taken.
    fn ask(&mut self, fields: &[(&str, &str)], count: u32) -> (usize, usize) {
        let mut open: HashSet<u32> = (0..count).map(|nth| self.next + 2 * nth).collect();
        self.next += 2 * count;
        let mut streams: Vec<u32> = open.iter().copied().collect();
        streams.sort_unstable();
        for stream in streams {
            self.h2.request(stream, fields);
        }
        let (mut answered, mut not_taken) = (0, 0);
        while !open.is_empty() {
            let frame = self.h2.next();
            match frame {
                Ok(frame) if frame.kind == h2::GOAWAY => {
                    let [last, code] =
                        [0, 4].map(|at| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap()));
                    assert_eq!(code, 0, "{frame:?}");
                    assert!(self.last.is_none_or(|before| last <= before), "the promise grew");
                    self.last = Some(last);
                }
                Ok(frame) if open.contains(&frame.stream) => match frame.kind {
                    h2::HEADERS => assert_eq!(frame.status(), 200),
                    h2::DATA if frame.flags & h2::END_STREAM != 0 => {
                        answered += usize::from(open.remove(&frame.stream));
                    }
                    h2::RST_STREAM => panic!("a stream was reset: {frame:?}"),
                    _ => {}
                },
                Ok(_) => {}
                Err(error) => {
                    let last = self.last.unwrap_or_else(|| panic!("the connection ended without GOAWAY: {error}"));
                    assert!(open.iter().all(|stream| *stream > last), "taken up to {last}, and not answered: {open:?}");
                }
            }
            // What came after the last one was not looked at.
            if let Some(last) = self.last {
                let before = open.len();
                open.retain(|stream| *stream <= last);
                not_taken += before - open.len();
            }
        }
        (answered, not_taken)
    }
}

#[test]
fn nothing_is_lost_or_done_twice_while_everything_changes() {
    let seconds = std::env::var("STEPGATE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let world = World::with(service());
    // One that lasts, and two that end and come back.
    let (lasts, mut one, mut two) = (Mortal::new(), Mortal::new(), Mortal::new());
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let [first_port, second_port, third_port] =
        [lasts.port, one.port, two.port].map(|port| format!("http://127.0.0.1:{port}"));
    let yaml = |turn: usize| {
        let targets = match turn / 5 % 4 {
            0 => format!("{first_port}, {second_port}, {third_port}"),
            1 => format!("{first_port}, {{url: '{second_port}', weight: 3}}, {third_port}"),
            2 => format!("{{url: '{third_port}', weight: 2}}, {first_port}"),
            _ => format!("{second_port}, {first_port}"),
        };
        format!(
            "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - address: 127.0.0.1:<tls>
    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}
server: {{workers: 2, drain_timeout: 1h, overload: {{queue_target: 10s}}}}
upstreams:
  some:
    targets: [{targets}]
    retries: {{attempts: 3, on: [connect, reset], budget: 100%}}
  chat: {{targets: [http://127.0.0.1:<upstream>]}}
access_log: off
routes:
  - {{path: /chat, upstream: chat, auth: none, upgrade: [websocket]}}
  - {{path: /marker-{turn}, upstream: chat, auth: none}}
  - {{path: /private/**, upstream: some, auth: [main]}}
  - {{path: /**, upstream: some, auth: none}}
"
        )
    };
    let first = world.start(&yaml(0));
    let ends = unix_now() + seconds / 2;
    let scene = Scene {
        gateway: &first,
        authority: &authority,
        tokens: [unix_now() + 600 + seconds, ends - LEEWAY]
            .map(|exp| world.token(json!({"exp": exp, "iat": unix_now() - 60}))),
        ends,
        done: AtomicBool::new(false),
        gets: AtomicUsize::new(0),
        streams: AtomicUsize::new(0),
        not_taken: AtomicUsize::new(0),
        allowed: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    };
    let (mut kills, mut sockets, mut all) = (Vec::new(), 0, Vec::<Gateway>::new());
    let (sent, rss) = std::thread::scope(|scope| {
        let scene = &scene;
        for number in 0..GETTING {
            scope.spawn(move || scene.get(number % 2 == 0));
        }
        scope.spawn(move || scene.get_until_it_ends());
        for number in 0..STREAMING {
            scope.spawn(move || scene.stream(number));
        }
        let posting: Vec<_> = (0..POSTING).map(|client| scope.spawn(move || scene.post(client))).collect();
        // One that was there before everything, and stays.
        let mut lasting = Socket::open(first.connect(), "/chat", "");
        let ended = Done(&scene.done);
        let (start, mut turn, mut rss) = (Instant::now(), 0_usize, Vec::new());
        let halfway = Duration::from_secs(seconds) / 2;
        while start.elapsed() < 2 * halfway {
            turn += 1;
            let serving = all.last().unwrap_or(&first);
            match turn % 5 {
                // The second half is one process's, so that what it would gather is seen.
                0 if start.elapsed() < halfway => {
                    let next = serving.succeed();
                    all.push(next);
                }
                0 => {}
                1 => {
                    world.configure(&yaml(turn));
                    serving.signal("HUP");
                }
                2 => authority.server(world.folder(), "one", &["one.example"]),
                number => {
                    let mortal = if number == 3 { &mut one } else { &mut two };
                    let from = Instant::now();
                    mortal.end();
                    kills.push((from, Instant::now()));
                    let_pass(Duration::from_millis(100));
                    mortal.start();
                }
            }
            lasting.talk("still there");
            Socket::open(first.connect(), "/chat", "").talk("and anew");
            sockets += 1;
            let_pass(Duration::from_millis(150));
            if start.elapsed() > halfway {
                rss.push(resident_kib(all.last().unwrap_or(&first).pid()));
            }
        }
        drop(ended);
        let sent: Vec<_> = posting.into_iter().flat_map(|posting| posting.join().unwrap()).collect();
        (sent, rss)
    });
    let failed: Vec<_> = sent.iter().filter(|sent| !sent.done).collect();
    println!(
        "{seconds} s: {:?} GET, {} POST and {} that failed in {} ends, {:?} streams and {:?} not taken, {sockets} sockets, {} processes; {rss:?} KiB",
        scene.gets,
        sent.len(),
        failed.len(),
        kills.len(),
        scene.streams,
        scene.not_taken,
        all.len() + 1
    );
    for Sent { target, done, .. } in &sent {
        let times: usize = [&lasts, &one, &two].map(|mortal| mortal.times(target)).iter().sum();
        assert!(times <= 1 && (times == 1 || !done), "{target}: done {times} times, answered: {done}");
    }
    // At most what was under way when its service was ended: of each client one.
    for (from, to) in &kills {
        let under_way = failed.iter().filter(|sent| sent.from <= *to && sent.to >= *from).count();
        assert!(under_way <= POSTING, "{under_way}");
    }
    for sent in &failed {
        assert!(
            kills.iter().any(|(from, to)| sent.from <= *to && sent.to >= *from),
            "{} failed, and no service was ended then",
            sent.target
        );
    }
    let [gets, streams, allowed, refused] =
        [&scene.gets, &scene.streams, &scene.allowed, &scene.refused].map(|count| count.load(Ordering::Relaxed));
    assert!(gets > 500 && sent.len() > 20 && streams > 100 && sockets > 5 && !all.is_empty());
    assert!(allowed > 0 && refused > 0, "{allowed} {refused}");
    // The first third warms up; in the others there is nothing to gather any more.
    let third = rss.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap();
    let (middle, last) = (most(&rss[third..2 * third]), most(&rss[2 * third..]));
    assert!(last <= middle + GROWTH_KIB, "{rss:?} KiB");
    let serving = all.last().unwrap_or(&first);
    assert_eq!(serving.metric("stepgate_config_reloads_total", &["result=\"refused\""]), 0.0);
}

/// What a target answers, and how long it takes: so that there is always something under way when targets change.
fn slow() -> Recorder {
    Recorder::with(|_, stream| {
        let_pass(Duration::from_millis(15));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    })
}

#[test]
fn targets_that_change_in_the_file_under_load_lose_no_request() {
    let world = World::with(slow());
    let other = slow();
    let yaml = |targets: &str| {
        let targets = targets
            .replace("ONE", "http://127.0.0.1:<upstream>")
            .replace("TWO", &format!("http://127.0.0.1:{}", other.port));
        format!(
            "server: {{workers: 2}}\nupstreams: {{api: {{targets: [{targets}]}}}}\nroutes: [{{path: /**, upstream: api, auth: none}}]\n"
        )
    };
    let gateway = world.start(&yaml("ONE"));
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..12 {
            let (gateway, done, served) = (&gateway, &done, &served);
            scope.spawn(move || {
                let mut own = Client::new(gateway);
                while !done.load(Ordering::Relaxed) {
                    // What is not sent again is not lost either.
                    let request = if client % 2 == 0 { get("/x") } else { post("/x", "a body") };
                    own.ask(&request).expect(200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ended = Done(&done);
        let turns =
            ["TWO", "ONE, TWO", "{url: 'ONE', weight: 5}, TWO", "ONE", "TWO", "{url: 'TWO', weight: 2}, ONE", "TWO"];
        for targets in turns {
            let reloads = || gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]);
            let before = reloads();
            world.configure(&yaml(targets));
            gateway.signal("HUP");
            eventually("the reload", || (reloads() > before).then_some(()));
            let (so_far, at_other) = (served.load(Ordering::Relaxed), other.count());
            eventually("requests", || (served.load(Ordering::Relaxed) > so_far + 30).then_some(()));
            assert!(!targets.contains("TWO") || other.count() > at_other, "{targets}");
        }
    });
    let served = served.load(Ordering::Relaxed);
    assert_eq!(world.upstream.count() + other.count(), served, "each once");
    let before = world.upstream.count();
    get("/x").send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), before, "it is a target no more");
    assert_eq!(gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]), 0.0);
}
