//! More than to send a request to the only target: who gets it, who waits, what is sent again, and what has an end.

use config::{Balance, Concurrency, Ejection, HashKey, HealthCheck, Retries};
use tokio::sync::Semaphore;

use super::*;

fn at(address: SocketAddr) -> config::UpstreamTarget {
    target(false, "127.0.0.1", address.port())
}

/// A service of these targets and rules.
fn ruled(targets: &[SocketAddr], rules: impl FnOnce(&mut config::Upstream)) -> Arc<Service> {
    let mut config = config_of(targets.iter().copied().map(at).collect());
    rules(&mut config);
    service(config)
}

fn retrying(on: &[u16]) -> Retries {
    Retries { attempts: 2, connect: true, reset: true, statuses: on.to_vec(), budget: None }
}

const EJECTION: Ejection =
    Ejection { failures: 2, base: Duration::from_secs(10), max: Duration::from_secs(300), panic: 50, answers: true };

/// Says the same to everybody, and counts.
async fn saying(answer: &'static str) -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let address = upstream(move |mut wire: Wire, _| {
        let seen = Rc::clone(&seen);
        async move {
            while wire.head().await.is_some() {
                seen.set(seen.get() + 1);
                wire.say(answer).await;
            }
        }
    })
    .await;
    (address, count)
}

/// Takes a request and closes without an answer.
async fn breaking() -> (SocketAddr, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let address = upstream(move |mut wire: Wire, _| {
        let seen = Rc::clone(&seen);
        async move {
            wire.head().await;
            seen.set(seen.get() + 1);
        }
    })
    .await;
    (address, count)
}

/// Answers once it is let.
async fn held() -> (SocketAddr, Rc<Semaphore>) {
    let semaphore = Rc::new(Semaphore::new(0));
    let open = Rc::clone(&semaphore);
    let address = upstream(move |mut wire: Wire, _| {
        let open = Rc::clone(&open);
        async move {
            while wire.head().await.is_some() {
                open.acquire().await.unwrap().forget();
                wire.say(OK).await;
            }
        }
    })
    .await;
    (address, semaphore)
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

#[test]
fn targets_have_requests_by_weight() {
    worker(async {
        let ((a, of_a), (b, of_b)) = (saying(OK).await, saying(OK).await);
        let service = ruled(&[a, b], |config| config.targets[0].weight = 3);
        let client = Client::new();
        for _ in 0..40 {
            client.text(&service).await.unwrap();
        }
        assert_eq!((of_a.get(), of_b.get()), (30, 10));
    });
}

#[test]
fn a_target_whose_connections_do_not_last_still_has_its_turns() {
    worker(async {
        let brief = Rc::new(Cell::new(0));
        let seen = Rc::clone(&brief);
        let a = upstream(move |mut wire: Wire, _| {
            let seen = Rc::clone(&seen);
            async move {
                wire.head().await;
                seen.set(seen.get() + 1);
                wire.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            }
        })
        .await;
        let (b, lasting) = saying(OK).await;
        let service = service_of(&[a, b]);
        let client = Client::new();
        for _ in 0..20 {
            client.text(&service).await.unwrap();
        }
        assert_eq!((brief.get(), lasting.get(), client.told.opened.get()), (10, 10, 11));
    });
}

#[test]
fn the_target_with_fewer_requests_under_way_is_chosen() {
    worker(async {
        let ((a, of_a), (b, of_b)) = (saying(OK).await, saying(OK).await);
        let service = ruled(&[a, b], |config| config.balancing.balance = Balance::LeastRequests);
        let client = Client::new();
        let busy = crate::upstream::dues::UnderWay::to(&service.targets()[0].target);
        for _ in 0..50 {
            client.text(&service).await.unwrap();
        }
        assert_eq!((of_a.get(), of_b.get()), (0, 50));
        drop(busy);
        for _ in 0..100 {
            client.text(&service).await.unwrap();
        }
        assert!(of_a.get() > 20, "{}", of_a.get());
        let count = |target: &Member| target.under_way.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(service.targets().iter().map(count).sum::<u32>(), 0, "what is over does not count");
    });
}

#[test]
fn a_key_goes_to_the_same_target_and_elsewhere_only_while_that_one_is_gone() {
    worker(async {
        let ((a, of_a), (b, of_b), (down, _socket)) = (saying(OK).await, saying(OK).await, nobody());
        let service =
            ruled(&[a, b, down], |config| config.balancing.balance = Balance::Hash(HashKey::Cookie("sid".into())));
        let client = Client::new();
        for key in 0..30_u8 {
            let key = crate::spread::Spread::new().with(&[key]).finish();
            let before = (of_a.get(), of_b.get());
            for _ in 0..4 {
                let sending = Sending { hash: Some(key), ..Sending::plain(SystemClock.now()) };
                let sent = client.pools.send(&service, request(Method::GET, "/"), &sending).await;
                read(sent.unwrap()).await.unwrap();
            }
            let seen = (of_a.get() - before.0, of_b.get() - before.1);
            assert!(seen == (4, 0) || seen == (0, 4), "{seen:?}");
        }
        assert!(of_a.get() > 20 && of_b.get() > 20, "{} {}", of_a.get(), of_b.get());
        assert!(service.targets()[2].is_out());
    });
}

#[test]
fn a_status_that_is_listed_is_tried_elsewhere_and_its_connection_kept() {
    worker(async {
        let ((bad, of_bad), (good, of_good)) = (saying(BUSY).await, saying(OK).await);
        let service = ruled(&[bad, good], |config| config.balancing.retries = retrying(&[503]));
        let client = Client::new();
        for _ in 0..10 {
            assert_eq!(client.text(&service).await.unwrap(), "ok");
        }
        assert_eq!((of_good.get(), client.told.opened.get()), (10, 2));
        assert_eq!(of_bad.get(), usize::try_from(client.told.retried.get()).unwrap());
    });
}

#[test]
fn the_last_answer_is_passed_on_when_all_answer_badly() {
    worker(async {
        let ((a, of_a), (b, of_b)) = (saying(BUSY).await, saying(BUSY).await);
        let service = ruled(&[a, b], |config| config.balancing.retries = retrying(&[503]));
        let answer = Client::new().send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(read(answer).await.unwrap().0, "busy");
        assert_eq!(of_a.get() + of_b.get(), 3);
    });
}

#[test]
fn what_does_something_is_never_sent_again() {
    worker(async {
        let ((bad, of_bad), (broken, of_broken)) = (saying(BUSY).await, breaking().await);
        for (address, count) in [(bad, of_bad), (broken, of_broken)] {
            let service = ruled(&[address], |config| config.balancing.retries = retrying(&[503]));
            let client = Client::new();
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let before = count.get();
                let _ = client.send(&service, request(method, "/")).await;
                assert_eq!(count.get() - before, 1);
            }
            let before = count.get();
            let _ = client.send(&service, with_body(Method::GET, "/", "a body")).await;
            assert_eq!(count.get() - before, 1);
            // A guarded one may be a GET.
            let sending = Sending { once: true, ..Sending::plain(SystemClock.now()) };
            let before = count.get();
            let _ = client.pools.send(&service, request(Method::GET, "/"), &sending).await;
            assert_eq!((count.get() - before, client.told.retried.get()), (1, 0));
        }
    });
}

#[test]
fn a_guarded_operation_on_a_connection_that_had_served_before_is_not_sent_twice() {
    worker(async {
        let count = Rc::new(Cell::new(0));
        let seen = Rc::clone(&count);
        let address = upstream(move |mut wire: Wire, _| {
            let seen = Rc::clone(&seen);
            async move {
                wire.head().await;
                wire.say(OK).await;
                // The second request is read, and the connection breaks.
                if wire.head().await.is_some() {
                    seen.set(seen.get() + 1);
                }
            }
        })
        .await;
        let (service, client) = (service_of(&[address]), Client::new());
        client.text(&service).await.unwrap();
        let sending = Sending { once: true, ..Sending::plain(SystemClock.now()) };
        let fault = client.pools.send(&service, request(Method::GET, "/"), &sending).await.err().unwrap();
        assert_eq!((fault.kind(), count.get(), client.told.opened.get()), (FaultKind::Reset, 1, 1));
    });
}

#[test]
fn a_new_connection_that_breaks_is_another_attempt_only_where_that_is_asked_for() {
    worker(async {
        for reset in [false, true] {
            let ((broken, of_broken), (good, _)) = (breaking().await, saying(OK).await);
            let service = ruled(&[broken, good], |config| {
                config.balancing.retries = Retries { reset, ..retrying(&[]) };
            });
            let client = Client::new();
            let answers: Vec<bool> = [client.text(&service).await.is_ok(), client.text(&service).await.is_ok()].into();
            assert_eq!(answers.iter().all(|answered| *answered), reset);
            assert!(of_broken.get() > 0);
        }
    });
}

#[test]
fn repetitions_have_a_budget() {
    worker(async {
        let (bad, of_bad) = saying(BUSY).await;
        let service = ruled(&[bad], |config| {
            config.balancing.retries = Retries { budget: Some(20), ..retrying(&[503]) };
        });
        let client = Client::new();
        for _ in 0..100 {
            client.text(&service).await.unwrap();
        }
        // A fifth, three at once, and three for each second that it took.
        let repeated = of_bad.get() - 100;
        assert!((20..=40).contains(&repeated), "{repeated}");
    });
}

#[test]
fn bad_answers_in_a_row_eject_and_one_that_is_good_readmits() {
    worker(async {
        let ((a, of_a), (b, _)) = (saying(BUSY).await, saying(OK).await);
        let service = ruled(&[a, b], |config| config.balancing.ejection = EJECTION);
        let client = Client::new();
        for _ in 0..20 {
            client.text(&service).await.unwrap();
        }
        assert_eq!((of_a.get(), service.targets()[0].is_out()), (2, true));
        assert_eq!(*client.told.ejected.borrow(), [a.to_string()]);

        // Once the pause is over one request finds out, and the next pause is twice as long.
        let later = now_plus(Duration::from_secs(11));
        for _ in 0..20 {
            read(client.send_at(&service, request(Method::GET, "/"), later).await.unwrap()).await.unwrap();
        }
        assert_eq!((of_a.get(), service.targets()[0].is_out()), (3, true));
    });
}

#[test]
fn a_slow_answer_that_began_before_the_ejection_brings_nothing_back() {
    worker(async {
        let gate = Rc::new(Semaphore::new(0));
        let open = Rc::clone(&gate);
        let address = upstream(move |mut wire: Wire, _| {
            let open = Rc::clone(&open);
            async move {
                while let Some(head) = wire.head().await {
                    if head.starts_with("GET /slow") {
                        open.acquire().await.unwrap().forget();
                    }
                    wire.say(if head.starts_with("GET /bad") { BUSY } else { OK }).await;
                }
            }
        })
        .await;
        let service = ruled(&[address], |config| config.balancing.ejection = EJECTION);
        let client = Client::new();
        let slow = {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { client.text_of(&service, request(Method::GET, "/slow")).await })
        };
        settle().await;
        for _ in 0..EJECTION.failures {
            client.text_of(&service, request(Method::GET, "/bad")).await.unwrap();
        }
        assert!(service.targets()[0].is_out());
        gate.add_permits(1);
        slow.await.unwrap().unwrap();
        assert!(service.targets()[0].is_out(), "it says nothing of how the target is since");
        assert!(client.told.readmitted.borrow().is_empty());
        // What is tried for want of another does.
        client.text(&service).await.unwrap();
        assert!(!service.targets()[0].is_out());
        assert_eq!(client.told.readmitted.borrow().len(), 1);
    });
}

#[test]
fn whoever_finds_out_and_leaves_does_not_keep_a_target_away_that_is_well() {
    worker(async {
        let ((back, open), (good, _)) = (held().await, saying(OK).await);
        let service = ruled(&[back, good], |config| {
            config.response_timeout = BRIEF;
            config.balancing.ejection = EJECTION;
        });
        let client = Client::new();
        while !service.targets()[0].is_out() {
            let _ = client.send(&service, request(Method::GET, "/")).await;
        }
        open.add_permits(100);
        let later = now_plus(Duration::from_secs(11));
        let over = SystemClock.now().instant.checked_sub(BRIEF);
        for _ in 0..4 {
            let sending = Sending { deadline: over, ..Sending::plain(later) };
            let answer = client.pools.send(&service, request(Method::GET, "/"), &sending).await;
            assert!(matches!(answer, Err(UpstreamFault::Deadline)), "as one that is not willing to wait");
        }
        for _ in 0..4 {
            read(client.send_at(&service, request(Method::GET, "/"), later).await.unwrap()).await.unwrap();
        }
        assert!(!service.targets()[0].is_out());
    });
}

#[test]
fn where_too_few_are_well_all_are_used() {
    worker(async {
        let ((a, of_a), (b, of_b), (c, of_c)) = (saying(BUSY).await, saying(BUSY).await, saying(OK).await);
        let service = ruled(&[a, b, c], |config| config.balancing.ejection = EJECTION);
        let client = Client::new();
        for _ in 0..60 {
            client.text(&service).await.unwrap();
        }
        // Two of three are out, and a third is less than half.
        let counts = [of_a.get(), of_b.get(), of_c.get()];
        assert!(counts.iter().all(|count| *count >= 15), "{counts:?}");
    });
}

#[test]
fn no_answer_in_time_counts_and_a_connection_alone_is_no_success() {
    worker(async {
        let (silent, _open) = held().await;
        let (good, _) = saying(OK).await;
        let service = ruled(&[silent, good], |config| {
            config.response_timeout = BRIEF;
            config.balancing.ejection = EJECTION;
        });
        let client = Client::new();
        let mut faults = 0;
        for _ in 0..10 {
            faults += u32::from(client.text(&service).await.is_err());
        }
        assert_eq!((faults, service.targets()[0].is_out()), (2, true));
    });
}

#[test]
fn a_new_target_begins_with_a_small_share() {
    worker(async {
        let ((a, of_a), (b, of_b)) = (saying(OK).await, saying(OK).await);
        let slowly = |config: &mut config::Upstream| config.balancing.slow_start = Some(Duration::from_secs(60));
        let (service, other) = (ruled(&[a], slowly), ruled(&[b], slowly));
        let client = Client::new();
        let start = SystemClock.now();
        read(client.send_at(&service, request(Method::GET, "/"), start).await.unwrap()).await.unwrap();
        service.publish(vec![service.targets()[0].clone(), other.targets()[0].clone()]);
        let later = |secs| start.after(Duration::from_secs(secs));
        service.targets()[0].health.share(Duration::from_secs(60), start.instant);
        let before = of_a.get();
        for _ in 0..110 {
            read(client.send_at(&service, request(Method::GET, "/"), later(60)).await.unwrap()).await.unwrap();
        }
        assert_eq!((of_a.get() - before, of_b.get()), (100, 10));
        for _ in 0..110 {
            read(client.send_at(&service, request(Method::GET, "/"), later(120)).await.unwrap()).await.unwrap();
        }
        assert_eq!((of_a.get() - before, of_b.get()), (155, 65));
    });
}

fn bounded(address: SocketAddr, requests: u32, queue: u32, queue_timeout: Duration) -> Arc<Service> {
    ruled(&[address], |config| config.balancing.concurrency = Some(Concurrency { requests, queue, queue_timeout }))
}

#[test]
fn requests_beyond_the_bound_wait_and_are_refused_when_the_queue_is_full_or_too_slow() {
    worker(async {
        let (address, open) = held().await;
        let service = bounded(address, 2, 1, AMPLE);
        let client = Client::new();
        let ask = || {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { client.text(&service).await.map_err(|fault| fault.kind()) })
        };
        let waiting = [ask(), ask(), ask()];
        settle().await;
        assert_eq!(service.load(), Some((2, 1)));
        assert_eq!(ask().await.unwrap(), Err(FaultKind::Busy));
        open.add_permits(3);
        for one in waiting {
            assert_eq!(one.await.unwrap().unwrap(), "ok");
        }
        assert_eq!(service.load(), Some((0, 0)));

        let (address, _open) = held().await;
        let service = bounded(address, 1, 8, BRIEF);
        let first = {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { client.text(&service).await })
        };
        settle().await;
        assert_eq!(client.fault(&service, request(Method::GET, "/")).await.kind(), FaultKind::Busy);
        assert_eq!(service.load(), Some((1, 0)));
        first.abort();
        let _ = first.await;
        assert_eq!(service.load(), Some((0, 0)), "a client that goes away gives its place back");
    });
}

#[test]
fn a_place_is_held_until_the_answer_is_over() {
    worker(async {
        let address = upstream(|mut wire: Wire, _| async move {
            wire.head().await;
            wire.say(long()).await;
            wire.closed().await;
        })
        .await;
        let service = bounded(address, 1, 0, AMPLE);
        let client = Client::new();
        let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(client.fault(&service, request(Method::GET, "/")).await.kind(), FaultKind::Busy);
        assert_eq!(read(answer).await.unwrap().0.len(), 20_000);
        assert_eq!(service.load(), Some((0, 0)));
    });
}

#[test]
fn a_request_has_an_end_before_its_answer_and_in_it() {
    worker(async {
        let (silent, _open) = held().await;
        let service = ruled(&[silent], |config| config.request_timeout = Some(BRIEF));
        let client = Client::new();
        assert_eq!(client.fault(&service, request(Method::GET, "/")).await.kind(), FaultKind::Deadline);

        let endless = upstream(|mut wire: Wire, _| async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            wire.closed().await;
        })
        .await;
        let service = ruled(&[endless], |config| config.request_timeout = Some(BRIEF));
        let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(read(answer).await.unwrap_err().kind(), FaultKind::Deadline);
    });
}

#[test]
fn an_answer_that_nobody_takes_ends_in_time_all_the_same() {
    worker(async {
        let (address, mut gone) = saying_and_waiting(long()).await;
        let service = ruled(&[address], |config| {
            config.request_timeout = Some(BRIEF);
            config.balancing.concurrency = Some(Concurrency { requests: 1, queue: 0, queue_timeout: AMPLE });
        });
        let client = Client::new();
        let mut body = client.send(&service, request(Method::GET, "/")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        // A client that takes nothing more makes nobody ask for more.
        gone.recv().await.unwrap();
        assert_eq!(service.load(), Some((0, 0)));
        for _ in 0..2 {
            assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), FaultKind::Deadline);
        }
        assert_eq!(*client.told.faults.borrow(), [FaultKind::Deadline]);
        // One that was read to its end is not late.
        let mut body = client.send(&service, request(Method::GET, "/")).await.unwrap().into_body();
        while !body.is_end_stream() {
            body.frame().await.unwrap().unwrap();
        }
        tokio::time::sleep(BRIEF * 2).await;
        assert!(body.frame().await.is_none());
        assert_eq!(client.told.faults.borrow().len(), 1);
    });
}

#[test]
fn what_is_sent_behind_an_early_answer_keeps_its_place_until_it_is_over_too() {
    worker(async {
        let (address, mut gone) = saying_and_waiting(OK).await;
        for time in [None, Some(BRIEF)] {
            let service = ruled(&[address], |config| {
                config.request_timeout = time;
                config.balancing.concurrency = Some(Concurrency { requests: 1, queue: 0, queue_timeout: AMPLE });
            });
            let client = Client::new();
            let (feed, request) = fed(Method::POST, "/");
            assert_eq!(client.text_of(&service, request).await.unwrap(), "ok");
            settle().await;
            assert_eq!(service.load(), Some((1, 0)));
            if time.is_none() {
                feed.send(data("the rest")).unwrap();
                drop(feed);
            }
            gone.recv().await.unwrap();
            assert_eq!(service.load(), Some((0, 0)), "{time:?}");
        }
    });
}

#[test]
fn a_route_says_another_end_and_a_client_an_earlier_one() {
    worker(async {
        let (silent, _open) = held().await;
        let service = ruled(&[silent], |config| config.request_timeout = Some(AMPLE * 4));
        let client = Client::new();
        let now = SystemClock.now();
        for sending in [
            Sending { request: Some(BRIEF), ..Sending::plain(now) },
            Sending { deadline: Some(now.instant + BRIEF), ..Sending::plain(now) },
            Sending { request: Some(AMPLE * 8), deadline: Some(now.instant + BRIEF), ..Sending::plain(now) },
        ] {
            let fault = client.pools.send(&service, request(Method::GET, "/"), &sending).await.err().unwrap();
            assert_eq!(fault.kind(), FaultKind::Deadline);
        }
        let sending = Sending { patience: Some(BRIEF), ..Sending::plain(now) };
        let fault = client.pools.send(&service, request(Method::GET, "/"), &sending).await.err().unwrap();
        assert_eq!(fault.kind(), FaultKind::Timeout);
    });
}

fn checked() -> HealthCheck {
    HealthCheck {
        path: "/healthz".into(),
        host: Some("check.example".into()),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        healthy: 1,
        unhealthy: 1,
        statuses: vec![(200, 299)],
    }
}

/// Serves on threads of its own: says what the switch says to health checks, and `ok` to others.
fn switched(is_well: &Arc<std::sync::atomic::AtomicBool>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let is_well = Arc::clone(is_well);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, is_well) = (stream.unwrap(), Arc::clone(&is_well));
            std::thread::spawn(move || {
                use std::io::{BufRead, Write};
                let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    head += &line;
                    if line == "\r\n" {
                        let is_check =
                            head.starts_with("GET /healthz HTTP/1.1\r\n") && head.contains("host: check.example\r\n");
                        let is_bad = is_check && !is_well.load(std::sync::atomic::Ordering::SeqCst);
                        if stream.write_all(if is_bad { BUSY } else { OK }.as_bytes()).is_err() {
                            return;
                        }
                        head.clear();
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn targets_are_asked_whether_they_are_well_and_that_outlives_a_reload() {
    worker(async {
        let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (sick, (good, of_good)) = (switched(&is_well), saying(OK).await);
        let config = |health: Option<HealthCheck>| {
            let mut config = config_of(vec![at(sick), at(good)]);
            config.balancing.health = health;
            [Arc::new(config)]
        };
        let files = Files::default();
        let first = Upstreams::compile(&config(Some(checked())), &files, None).unwrap();
        first.put_in_force(&tokio::runtime::Handle::current(), &config::Dns::default());
        let service = first.get("api").unwrap();
        until(|| service.targets()[0].is_out()).await;
        assert!(!service.targets()[1].is_out());
        let (client, before) = (Client::new(), of_good.get());
        for _ in 0..10 {
            client.text(&service).await.unwrap();
        }
        assert!(of_good.get() - before >= 10, "the others are left alone");

        let second = Upstreams::compile(&config(Some(checked())), &files, Some(&first)).unwrap();
        second.put_in_force(&tokio::runtime::Handle::current(), &config::Dns::default());
        drop((first, service));
        let service = second.get("api").unwrap();
        assert!(service.targets()[0].is_out());
        is_well.store(true, std::sync::atomic::Ordering::SeqCst);
        until(|| !service.targets()[0].is_out()).await;

        is_well.store(false, std::sync::atomic::Ordering::SeqCst);
        until(|| service.targets()[0].is_out()).await;
        let third = Upstreams::compile(&config(None), &files, Some(&second)).unwrap();
        third.put_in_force(&tokio::runtime::Handle::current(), &config::Dns::default());
        assert!(!third.get("api").unwrap().targets()[0].is_out(), "without a check there is no verdict");
    });
}
