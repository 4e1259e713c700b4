//! The limits on a client's pace and number, each met on purpose. The waiting is the limits' own.

use super::*;

const SHORT: Duration = Duration::from_millis(300);

/// Runs until the other side closes, and gives how long that took.
fn until_closed(client: &mut TcpStream) -> Duration {
    timed(|| read_to_close(client)).0
}

#[test]
fn a_connection_that_says_nothing_or_half_a_head_is_closed_after_the_header_timeout() {
    let running = Running::cleartext(ServerLimits { header_timeout: SHORT, ..limits() });
    for start in ["", "G", "GET / HTTP/1.1\r\nhost: a\r\n", "\r\n\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = running.connect();
        client.write_all(start.as_bytes()).unwrap();
        let took = until_closed(&mut client);
        assert!(took >= SHORT - Duration::from_millis(20) && took < 2 * SECOND, "{start:?}: {took:?}");
        assert_eq!(running.wait_closed(), Some(Verdict::HeaderTimeout));
    }
}

#[test]
fn bytes_now_and_then_do_not_stretch_the_header_timeout() {
    let running = Running::cleartext(ServerLimits { header_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let (took, ()) = timed(|| {
        client.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let mut byte = [0];
        while !matches!(client.read(&mut byte), Ok(0)) {
            if client.write_all(b"x: y\r\n").is_err() {
                break;
            }
        }
    });
    assert!(took < 2 * SECOND, "{took:?}");
    // The second head on a connection is timed from its first byte.
    let running = Running::cleartext(ServerLimits { header_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    exchange(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.write_all(b"GET").unwrap();
    assert!(until_closed(&mut client) < 2 * SECOND);
    assert_eq!(running.wait_closed(), Some(Verdict::HeaderTimeout));
}

#[test]
fn an_idle_connection_is_closed_in_good_order() {
    let running = Running::cleartext(ServerLimits { keepalive_idle: SHORT, ..limits() });
    let mut client = running.connect();
    exchange(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut byte = [0];
    let (took, read) = timed(|| client.read(&mut byte));
    assert_eq!(read.unwrap(), 0);
    assert!(took >= SHORT - Duration::from_millis(20) && took < 2 * SECOND, "{took:?}");
    assert_eq!(running.wait_closed(), Some(Verdict::Idle));
}

#[test]
fn an_upstream_that_takes_its_time_is_nobodys_timeout() {
    let shortest = Duration::from_millis(100);
    let running = Running::cleartext(ServerLimits {
        header_timeout: shortest,
        keepalive_idle: shortest,
        body_idle_timeout: shortest,
        write_stall_timeout: shortest,
        ..limits()
    });
    let mut client = running.connect();
    assert_eq!(exchange(&mut client, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"), (200, "slow".into()));
}

#[test]
fn a_body_that_stops_coming_is_given_up_and_the_client_told() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").unwrap();
    let (took, answer) = timed(|| answer(&mut client));
    assert_eq!(answer, (408, "too slow".into()));
    assert!(took < 2 * SECOND, "{took:?}");
    running.wait_for(|event| *event == Event::Body(Err(BodyFault::TimedOut)));
    assert_eq!(read_to_close(&mut client), "");
}

#[test]
fn a_body_that_comes_below_the_rate_is_given_up_though_it_never_stops() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").unwrap();
    client.set_read_timeout(Some(SECOND / 2)).unwrap();
    let start = Instant::now();
    // Forty bytes a second of 1,024, and never silent for a second of thirty.
    while client.peek(&mut [0]).is_err() && start.elapsed() < limits().body_idle_timeout {
        client.write_all(&[b'x'; 20]).unwrap();
    }
    assert_eq!(answer(&mut client), (408, "too slow".into()));
    assert!(start.elapsed() < limits().body_idle_timeout);
}

#[test]
fn a_refused_body_that_never_ends_ends_the_connection() {
    let running = Running::cleartext(ServerLimits { refused_body_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    client.write_all(b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc").unwrap();
    assert_eq!(answer(&mut client), (401, "refused".into()));
    let took = until_closed(&mut client);
    assert!(took >= SHORT - Duration::from_millis(20) && took < 2 * SECOND, "{took:?}");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    client.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let ended = running.wait_for(|event| matches!(event, Event::Ended(_)));
    assert!(matches!(ended, Event::Ended(StreamEnd { how: HowEnded::TimedOut, .. })), "{ended:?}");
    assert_eq!(running.wait_closed(), Some(Verdict::SlowReader));
}

#[test]
fn a_client_that_asks_on_and_on_and_takes_no_answer_is_cut() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let client = running.connect();
    let mut asking = client.try_clone().unwrap();
    let asks = std::thread::spawn(move || {
        let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
        while asking.write_all(requests.as_bytes()).is_ok() {}
    });
    assert_eq!(running.wait_closed(), Some(Verdict::SlowReader));
    asks.join().unwrap();
    drop(client);
}

#[test]
fn a_client_that_takes_its_answer_slowly_but_steadily_is_not_cut() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let mut client = running.connect();
    client.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut chunk = vec![0; 256 << 10];
    let start = Instant::now();
    // Paced by the clock, as a slow line is.
    while start.elapsed() < 2 * SECOND {
        client.read_exact(&mut chunk).unwrap();
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(running.events.try_iter().all(|event| !matches!(event, Event::Closed(_))));
}

#[test]
fn connections_beyond_the_limits_are_closed_at_once_and_their_places_come_back() {
    let running = Running::cleartext(ServerLimits { connections_per_ip: 2, ..limits() });
    let mut first = running.connect();
    let mut second = running.connect();
    exchange(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    exchange(&mut second, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(read_to_close(&mut running.connect()), "");
    assert_eq!(
        running.wait_for(|event| matches!(event, Event::Refused(_))),
        Event::Refused(Refused::TooManyFromAddress)
    );
    drop(first);
    running.wait_closed();
    exchange(&mut running.connect(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn a_connection_that_has_rested_goes_on_where_it_was() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    for _ in 0..2 {
        assert_eq!(exchange(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"), (200, "hello".into()));
        // Longer than a connection is idle before it gives back its buffers.
        std::thread::park_timeout(Duration::from_millis(1600));
    }
    // With the next head half there, it does not rest, and nothing of it is lost.
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
    assert_eq!(answer(&mut client), (200, "hello".into()));
    std::thread::park_timeout(Duration::from_millis(1600));
    assert_eq!(exchange(&mut client, "host: a\r\n\r\n"), (200, "hello".into()));
}
