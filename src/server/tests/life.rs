//! The life of a server: reload, drain, redirect listener, admin listener.

use super::*;
use crate::body::Received;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn with_address(mode: PlanMode, address: SocketAddr) -> ListenerPlan {
    ListenerPlan::plain("test".into(), address, mode)
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn a_reload_keeps_connections_adds_listeners_and_drains_the_removed() {
    let before = plan(&[PlanMode::Cleartext], limits());
    let running = Running::start(&before);
    let first = running.address();
    let mut kept = running.connect();
    exchange(&mut kept, GET);
    let mut both = before.clone();
    both.listeners.push(with_address(PlanMode::Cleartext, any_port()));
    let prepared = running.server().prepare(&both).unwrap();
    running.server().apply(prepared);
    let addresses: Vec<_> =
        running.server().local_addresses().iter().map(|address| address.socket().unwrap()).collect();
    assert_eq!(addresses.first(), Some(&first));
    assert_eq!(exchange(&mut kept, GET).0, 200);
    let mut added = TcpStream::connect(addresses.last().unwrap()).unwrap();
    assert_eq!(exchange(&mut added, GET).0, 200);
    let prepared = running.server().prepare(&before).unwrap();
    running.server().apply(prepared);
    assert_eq!(read_to_close(&mut added), "");
    assert_eq!(exchange(&mut kept, GET).0, 200);
    assert!(TcpStream::connect(addresses.last().unwrap()).is_err());
}

#[test]
fn a_reload_that_cannot_bind_names_its_listener_and_changes_nothing() {
    let before = plan(&[PlanMode::Cleartext], limits());
    let running = Running::start(&before);
    let taken = std::net::TcpListener::bind(any_port()).unwrap();
    let mut after = before.clone();
    after.listeners.push(with_address(PlanMode::Cleartext, taken.local_addr().unwrap()));
    let error = running.server().prepare(&after).unwrap_err();
    assert_eq!(error.to_string(), format!("listeners[1]: listening on {}", taken.local_addr().unwrap()));
    assert_eq!(exchange(&mut running.connect(), GET).0, 200);
}

#[test]
fn changed_limits_are_for_connections_to_come() {
    let before = plan(&[PlanMode::Cleartext], limits());
    let running = Running::start(&before);
    let mut old = running.connect();
    exchange(&mut old, GET);
    let mut after = before;
    after.limits.header_bytes = 8192;
    running.server().apply(running.server().prepare(&after).unwrap());
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(10_000));
    assert_eq!(exchange(&mut old, &long).0, 200);
    // The order reaches the worker before the next connection is accepted, or shortly after.
    let deadline = Instant::now() + 5 * SECOND;
    while exchange(&mut running.connect(), &long).0 != 431 {
        assert!(Instant::now() < deadline);
    }
}

/// What was let in without TLS, without a certificate or in the name of a relay does not stay so for as long as it likes.
#[test]
fn a_listener_that_asks_for_something_else_ends_the_connections_that_it_has_in_good_order() {
    let before = plan(&[PlanMode::Cleartext], limits());
    let mut relayed = before.clone();
    relayed
        .listeners
        .iter_mut()
        .for_each(|listener| listener.proxy_protocol.networks = vec!["192.0.2.0/24".parse().unwrap()]);
    for after in [plan(&[PlanMode::Http1], limits()), relayed] {
        let running = Running::start(&before);
        let (mut resting, mut busy) = (running.connect(), running.connect());
        exchange(&mut resting, GET);
        busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        running.wait_for(|event| *event == Event::Began("/slow".into()));
        running.server().apply(running.server().prepare(&after).unwrap());
        assert_eq!(read_to_close(&mut resting), "");
        let (head, _) = head(&mut busy);
        assert!(head.contains("connection: close"), "{head}");
        assert!(read_to_close(&mut busy).ends_with("slow"));
        assert_eq!(exchange(&mut running.connect(), GET).0, 200);
        // The same once more changes nothing.
        let mut kept = running.connect();
        exchange(&mut kept, GET);
        running.server().apply(running.server().prepare(&after).unwrap());
        exchange(&mut running.connect(), GET);
        exchange(&mut kept, GET);
    }
}

#[test]
fn the_mode_of_a_unix_socket_changes_with_a_reload_that_is_taken_and_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let mode = || std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) & 0o777;
    let mut before = plan(&[PlanMode::Cleartext], limits());
    before.listeners.iter_mut().for_each(|listener| {
        listener.address = ListenerAddress::Unix(path.clone());
        listener.unix_mode = 0o600;
    });
    let running = Running::start(&before);
    let taken = std::net::TcpListener::bind(any_port()).unwrap();
    let mut after = before.clone();
    after.listeners.iter_mut().for_each(|listener| listener.unix_mode = 0o666);
    let prepared = running.server().prepare(&after).unwrap();
    let mut refused = after.clone();
    refused.listeners.push(with_address(PlanMode::Cleartext, taken.local_addr().unwrap()));
    running.server().prepare(&refused).unwrap_err();
    assert_eq!(mode(), 0o600);
    running.server().apply(prepared);
    assert_eq!(mode(), 0o666);
}

#[test]
fn a_drain_finishes_what_is_under_way_closes_the_idle_and_accepts_no_more() {
    let mut running = Running::cleartext(limits());
    let address = running.address();
    let mut idle = running.connect();
    exchange(&mut idle, GET);
    let mut busy = running.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    running.wait_for(|event| *event == Event::Began("/slow".into()));
    let drain = running.server.take().unwrap().drain(Instant::now() + 10 * SECOND);
    let (head, _) = head(&mut busy);
    assert!(head.contains("connection: close"), "{head}");
    assert!(read_to_close(&mut busy).ends_with("slow"));
    assert_eq!(read_to_close(&mut idle), "");
    let (took, ()) = timed(|| drain.wait());
    assert!(took < 5 * SECOND, "{took:?}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn connections_in_the_queue_when_a_drain_begins_are_served() {
    let mut running = Running::cleartext(limits());
    let mut clients: Vec<_> = (0..50).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.write_all(GET.as_bytes()).unwrap();
    }
    let drain = running.server.take().unwrap().drain(Instant::now() + 10 * SECOND);
    for client in &mut clients {
        assert_eq!(answer(client).0, 200);
    }
    drain.wait();
}

#[test]
fn a_drain_cuts_what_is_not_done_at_its_deadline() {
    let mut running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    running.wait_for(|event| *event == Event::Began("/never".into()));
    let drain = running.server.take().unwrap().drain(Instant::now() + Duration::from_millis(200));
    let (took, ()) = timed(|| drain.wait());
    assert!(took < 3 * SECOND, "{took:?}");
    assert_eq!(running.wait_closed(), Some(Verdict::Drain));
    assert_eq!(read_to_close(&mut client), "");
}

#[test]
fn several_workers_share_a_port() {
    let running = Running::start(&ServerPlan { workers: 2, ..plan(&[PlanMode::Cleartext], limits()) });
    for _ in 0..20 {
        assert_eq!(exchange(&mut running.connect(), GET).0, 200);
    }
}

#[test]
fn the_redirect_listener_only_redirects() {
    let running = Running::start(&plan(&[PlanMode::Redirect(8443)], limits()));
    let mut client = running.connect();
    client.write_all(b"POST /a?b=c HTTP/1.1\r\nhost: api.example:80\r\ncontent-length: 3\r\n\r\nabc").unwrap();
    let answer = read_to_close(&mut client);
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: https://api.example:8443/a?b=c\r\n"), "{answer}");
    let mut client = running.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_to_close(&mut client).starts_with("HTTP/1.1 400 "));
    assert!(running.events.try_iter().all(|event| !matches!(event, Event::Began(_))));
}

struct Api;

impl AdminApi for Api {
    fn jwks(&self) -> Option<String> {
        None
    }

    fn ready(&self) -> (bool, serde_json::Value) {
        (false, serde_json::json!({"waiting": "keys"}))
    }
    fn metrics(&self) -> String {
        "up 1\n".into()
    }
    fn call(&self, method: &http::Method, path: &str, _: Option<&str>, body: Bytes) -> Option<AdminAnswer> {
        (path == "/reload" && method == http::Method::POST)
            .then(|| AdminAnswer { status: StatusCode::OK, body: serde_json::json!({"read": body.len()}) })
    }
}

#[test]
fn the_admin_listener_tells_health_to_all_and_the_rest_to_who_has_the_token() {
    let token = crate::secret::Secret::new(*b"s3cret");
    let inherited = Arc::default();
    let bound = AdminServer::bind(any_port(), &limits(), &inherited, &()).unwrap();
    let admin = AdminServer::start(bound, Some(token), Arc::new(Api), Arc::new(()), &inherited).unwrap();
    let mut client = TcpStream::connect(admin.local_address().unwrap()).unwrap();
    let mut ask = |line: &str, fields: &str, body: &str| {
        let length = body.len();
        exchange(&mut client, &format!("{line} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {length}\r\n\r\n{body}"))
    };
    assert_eq!(ask("GET /livez", "", "").0, 200);
    assert_eq!(ask("GET /readyz", "", ""), (503, "{\"waiting\":\"keys\"}\n".into()));
    assert_eq!(ask("GET /metrics", "", ""), (200, "up 1\n".into()));
    assert_eq!(ask("POST /metrics", "", "").0, 405);
    assert_eq!(ask("POST /reload", "", "").0, 401);
    assert_eq!(ask("GET /unknown", "", "").0, 401);
    assert_eq!(ask("POST /reload", "authorization: Bearer wrong\r\n", "").0, 401);
    assert_eq!(ask("POST /reload", "authorization: Bearer s3cret\r\nauthorization: Bearer s3cret\r\n", "").0, 401);
    assert_eq!(ask("POST /reload", "authorization: bearer s3cret\r\n", "abc"), (200, "{\"read\":3}\n".into()));
    assert_eq!(ask("GET /unknown", "authorization: Bearer s3cret\r\n", "").0, 404);
    admin.set_token(None);
    assert_eq!(ask("POST /reload", "authorization: Bearer s3cret\r\n", "").0, 404);
    admin.drain(Instant::now() + SECOND);
}

#[test]
fn the_admin_listener_takes_few_of_the_open_files_whatever_clients_may() {
    let inherited = Arc::default();
    let bound = AdminServer::bind(any_port(), &limits(), &inherited, &()).unwrap();
    let admin = AdminServer::start(bound, None, Arc::new(Api), Arc::new(()), &inherited).unwrap();
    let connect = || TcpStream::connect(admin.local_address().unwrap()).unwrap();
    let live = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut open: Vec<_> = std::iter::repeat_with(connect).take(64).collect();
    assert!(open.iter_mut().all(|client| exchange(client, live).0 == 200));
    assert_eq!(read_to_close(&mut connect()), "");
    open.pop();
    let deadline = Instant::now() + 5 * SECOND;
    while std::iter::once(connect())
        .all(|mut client| client.write_all(live.as_bytes()).is_err() || read_one(&mut client).is_none())
    {
        assert!(Instant::now() < deadline);
    }
}

/// A service whose making, or whose first request, goes wrong in a way that no request of another should feel.
struct Broken;

impl Serve for Broken {
    type Tail = ();

    async fn serve(&self, _: Rc<ConnectionInfo>, _: Request<Received>) -> Response<ResponseBody<()>> {
        // As a resolver that does not answer: it is asked on a thread of its own, and cannot be told to stop.
        tokio::task::spawn_blocking(|| thread::sleep(20 * SECOND));
        Response::new(ResponseBody::empty(()))
    }
}

#[test]
fn a_drain_does_not_wait_for_a_blocking_call_that_never_ends() {
    let server = Server::start(&plan(&[PlanMode::Cleartext], limits()), |_| Rc::new(Broken), Arc::new(())).unwrap();
    let mut client = TcpStream::connect(server.local_addresses().first().unwrap().socket().unwrap()).unwrap();
    assert_eq!(exchange(&mut client, GET).0, 200);
    drop(client);
    let (took, ()) = timed(|| server.drain(Instant::now() + SECOND).wait());
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn a_worker_that_panics_is_told_of() {
    let broken = |_| -> Rc<Broken> { panic!("on purpose") };
    let server = Server::start(&plan(&[PlanMode::Cleartext], limits()), broken, Arc::new(())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = server.failed();
    runtime.block_on(async { tokio::time::timeout(10 * SECOND, failed.notified()).await }).unwrap();
}

#[test]
fn a_part_of_a_worker_that_panics_is_told_of() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = Arc::new(tokio::sync::Notify::new());
    let alarm = Alarm(Arc::clone(&failed));
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(alarm.guard(async {})).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(1), failed.notified()).await.is_err());
        tokio::task::spawn_local(alarm.guard(async { panic!("on purpose") })).await.unwrap_err();
        tokio::time::timeout(SECOND, failed.notified()).await.unwrap();
    });
}
