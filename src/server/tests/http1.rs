//! HTTP/1.1 on the wire: framing that must not be doubted, early answers, clients that go away or half away.

use std::net::Shutdown;

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn a_connection_is_kept_for_one_request_after_another_and_for_pipelined_ones() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    assert_eq!(exchange(&mut client, GET), (200, "hello".into()));
    assert_eq!(exchange(&mut client, GET), (200, "hello".into()));
    client.write_all(GET.repeat(20).as_bytes()).unwrap();
    for _ in 0..20 {
        assert_eq!(answer(&mut client), (200, "hello".into()));
    }
}

#[test]
fn doubtful_framing_is_refused_and_the_connection_closed() {
    let running = Running::cleartext(limits());
    for (head, body) in [
        ("content-length: 3\r\ncontent-length: 4", "abcd"),
        ("content-length: 3, 4", "abcd"),
        ("content-length: +3", "abc"),
        ("content-length: 0x3", "abc"),
        ("content-length: 99999999999999999999", ""),
        ("transfer-encoding: xchunked", "0\r\n\r\n"),
        ("transfer-encoding: chunked, chunked", "0\r\n\r\n"),
        ("transfer-encoding: gzip, chunked", "0\r\n\r\n"),
        ("transfer-encoding: chunked, identity", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity", "0\r\n\r\n"),
        ("transfer-encoding: identity\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
        ("transfer-encoding : chunked", "0\r\n\r\n"),
        ("content-length : 3", "abc"),
        ("x: a\r\n folded: b", ""),
        ("x: a\rb", ""),
        ("x: a\0b", ""),
        ("x\0: a", ""),
        (" x: a", ""),
        ("x y: a", ""),
        (": a", ""),
    ] {
        let mut client = running.connect();
        let request = format!("POST /read HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}{GET}");
        client.write_all(request.as_bytes()).unwrap();
        let answers = read_to_close(&mut client);
        assert!(answers.starts_with("HTTP/1.1 400 "), "{head:?}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{head:?}: {answers}");
    }
}

#[test]
fn a_transfer_coding_in_http_1_0_is_refused() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
    assert!(read_to_close(&mut client).contains(" 400 "));
}

#[test]
fn with_both_lengths_the_chunks_count_and_the_connection_closes() {
    let running = Running::cleartext(limits());
    for fields in
        ["content-length: 30\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let mut client = running.connect();
        let request = format!("POST /read HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n2\r\nab\r\n0\r\n\r\n{GET}");
        client.write_all(request.as_bytes()).unwrap();
        let answers = read_to_close(&mut client);
        assert!(answers.contains("read 2"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }
}

#[test]
fn malformed_chunks_are_refused_and_what_follows_is_no_request() {
    let running = Running::cleartext(limits());
    for chunks in [
        "0x2\r\nab\r\n0\r\n\r\n",
        "2 2\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nab\r\n0\r\n\r\n",
        "2\nab\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2;a\nb\r\nab\r\n0\r\n\r\n",
        "\r\n2\r\nab\r\n0\r\n\r\n",
        "2\rab\r\n0\r\n\r\n",
    ] {
        let mut client = running.connect();
        let request = format!("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{GET}");
        client.write_all(request.as_bytes()).unwrap();
        let answers = read_to_close(&mut client);
        assert!(answers.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{chunks:?}: {answers}");
    }
}

#[test]
fn endless_chunk_extensions_are_refused() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    let chunks = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(40);
    let request = format!("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    assert!(read_to_close(&mut client).starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_head_of_too_many_bytes_or_fields_gets_its_431_although_more_is_on_the_way() {
    let running = Running::cleartext(limits());
    let many = (0..300).map(|n| format!("x-{n}: a\r\n")).collect::<String>();
    let long = format!("x: {}\r\n", "a".repeat(200 * 1024));
    for fields in [many, long] {
        let mut client = running.connect();
        client.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        let answer = read_to_close(&mut client);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let mut client = running.connect();
    let most = (0..198).map(|n| format!("x-{n}: a\r\n")).collect::<String>();
    assert_eq!(exchange(&mut client, &format!("GET / HTTP/1.1\r\nhost: a\r\n{most}\r\n")).0, 200);
    let target = "a".repeat(60_000);
    assert_eq!(exchange(&mut client, &format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n")).0, 200);
}

#[test]
fn a_refused_body_is_read_off_so_that_the_answer_arrives_and_the_connection_stays() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    let body = "x".repeat(4 << 20);
    let request = format!("POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(exchange(&mut client, &request), (401, "refused".into()));
    assert_eq!(exchange(&mut client, GET), (200, "hello".into()));
}

#[test]
fn a_refused_body_longer_than_an_accepted_one_may_be_ends_the_connection() {
    let running = Running::cleartext(ServerLimits { body_bytes: 1 << 20, ..limits() });
    let mut client = running.connect();
    client.write_all(b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
    assert_eq!(answer(&mut client), (401, "refused".into()));
    let chunk = vec![b'x'; 1 << 20];
    assert!((0..100).any(|_| client.write_all(&chunk).is_err()));
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_length_or_as_soon_as_it_is_exceeded() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 5000000\r\n\r\n").unwrap();
    assert_eq!(answer(&mut client), (413, "too large".into()));
    let mut client = running.connect();
    let chunks = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(17);
    let request = format!("POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    assert_eq!(exchange(&mut client, &request), (413, "too large".into()));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_only_when_its_body_is_wanted() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    let expecting =
        |path| format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    client.write_all(expecting("/read").as_bytes()).unwrap();
    assert!(head(&mut client).0.starts_with("HTTP/1.1 100 "));
    assert_eq!(exchange(&mut client, "abc"), (200, "read 3".into()));
    client.write_all(expecting("/refuse").as_bytes()).unwrap();
    let answer = read_to_close(&mut client);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[test]
fn nothing_follows_the_refusal_of_a_body_that_was_expected_about_in_whatever_form() {
    let running = Running::cleartext(limits());
    for expect in [
        "expect: x\r\nexpect: 100-continue",
        "expect: 100-continue, x",
        "expect: y 100-continue",
        "expect:\t100-CONTINUE",
    ] {
        let mut client = running.connect();
        let request = format!("POST /refuse HTTP/1.1\r\nhost: a\r\n{expect}\r\ncontent-length: 3\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let answer = read_to_close(&mut client);
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{expect}: {answer}");
    }
}

#[test]
fn a_client_that_has_closed_its_sending_side_still_gets_its_answer() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut client), (200, "slow".into()));
    assert_eq!(read_to_close(&mut client), "");
}

#[test]
fn the_request_of_a_client_that_is_gone_is_dropped() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    running.wait_for(|event| *event == Event::Began("/never".into()));
    drop(client);
    let (took, _) = timed(|| running.wait_for(|event| *event == Event::Abandoned));
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn a_client_that_goes_within_its_body_is_told_apart_from_a_malformed_body() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").unwrap();
    running.wait_for(|event| *event == Event::Began("/read".into()));
    client.shutdown(Shutdown::Write).unwrap();
    running.wait_for(|event| *event == Event::Body(Err(BodyFault::ClientGone)));
    let mut client = running.connect();
    client.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").unwrap();
    running.wait_for(|event| *event == Event::Body(Err(BodyFault::Malformed)));
}

#[test]
fn an_answer_is_reported_complete_once_and_also_where_it_has_no_body_on_the_wire() {
    let running = Running::cleartext(limits());
    let mut client = running.connect();
    exchange(&mut client, GET);
    let ended = |event: &Event| matches!(event, Event::Ended(_));
    let complete = |bytes| Event::Ended(StreamEnd { bytes, how: HowEnded::Complete });
    assert_eq!(running.wait_for(ended), complete(5));
    client.write_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    head(&mut client);
    assert_eq!(running.wait_for(ended), complete(0));
    assert!(running.events.try_recv().is_err());
}

#[test]
fn bytes_that_are_no_http_are_answered_with_400_or_closed() {
    let running = Running::cleartext(limits());
    for junk in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
    {
        let mut client = running.connect();
        client.write_all(junk).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = read_to_close(&mut client);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(exchange(&mut running.connect(), GET).0, 200);
}
