//! HTTP/2 on the wire, frame by frame: what a client may do, and what it may not do to us.

use super::*;
use crate::server::settings::HttpSettings;

const SHORT: Duration = Duration::from_millis(300);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Client(TcpStream);

impl Client {
    fn connect(running: &Running) -> Self {
        Self::with_settings(running, &[])
    }

    fn with_settings(running: &Running, settings: &[u8]) -> Self {
        let mut client = Self(running.connect());
        client.0.write_all(PREFACE).unwrap();
        client.send(SETTINGS, 0, 0, settings);
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).unwrap();
    }

    fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(&frame(kind, flags, stream, payload))
    }

    /// The next frame, or nothing when the server has closed.
    fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn receive_kind(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.receive() {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    fn request(&mut self, stream: u32, path: &str, flags: u8) {
        self.send(HEADERS, END_HEADERS | flags, stream, &head(path));
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block (RFC 7541): `:method GET`, `:scheme http`, `:path`, `:authority a`.
fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 0x01, b'a']);
    block
}

/// The same for a POST that has an expectation (RFC 9110 §10.1.1).
fn expecting_head(path: &str, expectation: &str) -> Vec<u8> {
    let mut block = vec![0x83];
    block.extend(head(path).into_iter().skip(1));
    literal(&mut block, "expect", expectation);
    block
}

/// Adds a field that is in no table (RFC 7541 §6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x00);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

/// The header block of a 100, the first of its connection.
const CONTINUE: &[u8] = &[0x48, 0x82, 0x08, 0x01];

#[test]
fn prior_knowledge_is_recognised_and_served() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.request(1, "/", END_STREAM);
    let head = client.receive_kind(HEADERS).unwrap();
    assert_eq!((head.stream, head.payload.first()), (1, Some(&0x88)));
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

/// Has a request refused whose body has yet to come.
fn refused(client: &mut Client) {
    client.request(1, "/refuse", 0);
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"refused");
}

/// The next frame is a reset of the first stream, without an error, and others are served.
fn reset_without_error(client: &mut Client) {
    let reset = client.receive_kind(RST_STREAM).unwrap();
    assert_eq!((reset.stream, reset.payload), (1, vec![0; 4]));
    client.request(3, "/", END_STREAM);
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

#[test]
fn a_refused_body_that_does_not_end_has_its_stream_reset_without_error_and_leaves_the_others_alone() {
    let running = Running::cleartext(ServerLimits { refused_body_timeout: SHORT, ..limits() });
    let mut client = Client::connect(&running);
    refused(&mut client);
    reset_without_error(&mut client);
}

#[test]
fn a_refused_body_longer_than_an_accepted_one_may_be_has_its_stream_reset_too() {
    let running = Running::cleartext(ServerLimits { body_bytes: 1000, ..limits() });
    let mut client = Client::connect(&running);
    refused(&mut client);
    client.send(DATA, 0, 1, &[b'x'; 1001]);
    reset_without_error(&mut client);
}

#[test]
fn the_rest_of_a_refused_body_is_read_off_and_its_stream_is_not_reset() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    refused(&mut client);
    // Most of a stream's first window, so that more room is given once it is read.
    let mut room = 0;
    for _ in 0..4 {
        client.send(DATA, 0, 1, &[b'x'; 16_000]);
    }
    client.send(DATA, END_STREAM, 1, b"x");
    client.request(3, "/", END_STREAM);
    loop {
        let frame = client.receive().unwrap();
        assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY, "{frame:?}");
        room += usize::from(frame.kind == WINDOW_UPDATE);
        if frame.kind == DATA {
            assert_eq!((frame.stream, &*frame.payload), (3, &b"hello"[..]));
            break;
        }
    }
    assert!(room > 0, "nothing was read off");
}

#[test]
fn an_idle_connection_gets_a_goaway_and_is_closed_whatever_it_pings() {
    let running = Running::cleartext(ServerLimits { keepalive_idle: SHORT, ..limits() });
    let mut client = Client::connect(&running);
    client.request(1, "/", END_STREAM);
    client.receive_kind(DATA).unwrap();
    client.send(PING, 0, 0, &[0; 8]);
    let (took, goaway) = timed(|| client.receive_kind(GOAWAY));
    assert!(goaway.is_some());
    assert!(took < 2 * SECOND, "{took:?}");
    // It acknowledges nothing more, and must not be needed to.
    assert_eq!(running.wait_closed(), Some(Verdict::CloseTimeout));
}

#[test]
fn a_header_block_that_never_ends_meets_the_header_timeout_although_another_stream_is_busy() {
    let running = Running::cleartext(ServerLimits { header_timeout: SHORT, ..limits() });
    let mut client = Client::connect(&running);
    client.request(1, "/never", END_STREAM);
    client.send(HEADERS, END_STREAM, 3, &head("/"));
    assert_eq!(running.wait_closed(), Some(Verdict::HeaderTimeout));
}

#[test]
fn continuations_without_end_close_the_connection() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.send(HEADERS, END_STREAM, 1, &head("/"));
    let field = [&[0x00, 0x01, b'x', 0x64][..], &[b'a'; 100]].concat();
    // More than the buffers of both sockets hold, and what is read off after the end.
    let survived = (0..200_000).take_while(|_| client.try_send(CONTINUATION, 0, 1, &field).is_ok()).count();
    assert!(survived < 200_000);
    running.wait_closed();
}

#[test]
fn a_header_list_over_the_limit_is_refused_and_the_connection_goes_on() {
    let running = Running::cleartext(ServerLimits { header_bytes: 8192, ..limits() });
    let mut client = Client::connect(&running);
    let field = [&[0x00, 0x01, b'x', 0x64][..], &[b'a'; 100]].concat();
    let block = [head("/"), field.repeat(100)].concat();
    client.send(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let answer = client.receive_kind(HEADERS).unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("431") || answer.payload.len() < 20, "{answer:?}");
    client.request(3, "/", END_STREAM);
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

#[test]
fn streams_opened_only_to_be_reset_end_the_connection() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    let mut survived = 0;
    for stream in (1..20_000).step_by(2) {
        let pair = [
            frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/never")),
            frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()),
        ];
        if client.0.write_all(&pair.concat()).is_err() {
            break;
        }
        survived += 1;
    }
    assert!(survived < 9_999, "{survived}");
    running.wait_closed();
}

#[test]
fn pings_and_settings_without_end_close_the_connection() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let running = Running::cleartext(limits());
        let mut client = Client::connect(&running);
        let flood = frame(kind, 0, 0, payload).repeat(1000);
        let _ = (0..100).try_for_each(|_| client.0.write_all(&flood));
        assert_eq!(running.wait_closed(), Some(Verdict::Flood));
    }
}

#[test]
fn a_stream_whose_window_stays_shut_is_reset_and_the_others_go_on() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let mut client = Client::with_settings(&running, &[0, 4, 0, 0, 0, 0]);
    client.request(1, "/big", END_STREAM);
    let (took, reset) = timed(|| client.receive_kind(RST_STREAM));
    assert_eq!(reset.unwrap().stream, 1);
    assert!(took < 2 * SECOND, "{took:?}");
    let ended = running.wait_for(|event| matches!(event, Event::Ended(_)));
    assert!(matches!(ended, Event::Ended(StreamEnd { how: HowEnded::TimedOut, .. })), "{ended:?}");
    client.request(3, "/", END_STREAM);
    client.send(WINDOW_UPDATE, 0, 3, &100u32.to_be_bytes());
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

#[test]
fn answers_for_windows_that_stay_shut_do_not_keep_a_connection_open() {
    let running = Running::cleartext(ServerLimits { keepalive_idle: SHORT, body_idle_timeout: SHORT, ..limits() });
    let mut client = Client::with_settings(&running, &[0, 4, 0, 0, 0, 0]);
    for stream in [1, 3, 5] {
        client.request(stream, "/", END_STREAM);
    }
    assert!(matches!(running.wait_closed(), Some(Verdict::Idle | Verdict::CloseTimeout | Verdict::SlowReader)));
}

#[test]
fn a_body_that_stops_coming_is_given_up_on_its_stream_alone() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let mut client = Client::connect(&running);
    client.request(1, "/read", 0);
    client.send(DATA, 0, 1, b"abc");
    running.wait_for(|event| *event == Event::Body(Err(BodyFault::TimedOut)));
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"too slow");
    client.request(3, "/", END_STREAM);
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

#[test]
fn the_request_of_a_reset_stream_is_dropped() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.request(1, "/never", END_STREAM);
    running.wait_for(|event| *event == Event::Began("/never".into()));
    client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    running.wait_for(|event| *event == Event::Abandoned);
    // The same when the whole connection goes.
    client.request(3, "/never", END_STREAM);
    running.wait_for(|event| *event == Event::Began("/never".into()));
    drop(client);
    running.wait_for(|event| *event == Event::Abandoned);
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    for bytes in [
        frame(DATA, 0, 1, b"abc"),
        frame(HEADERS, END_HEADERS, 0, &head("/")),
        frame(HEADERS, END_HEADERS, 2, &head("/")),
        frame(CONTINUATION, END_HEADERS, 1, &head("/")),
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(PING, 0, 0, &[0; 7]),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 20]),
        vec![0xff; 100],
    ] {
        let running = Running::cleartext(limits());
        let mut client = Client::connect(&running);
        client.0.write_all(&bytes).unwrap();
        assert!(client.receive_kind(GOAWAY).is_some(), "{bytes:?}");
        running.wait_closed();
    }
}

#[test]
fn a_flag_that_ends_nothing_is_no_end() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.request(1, "/read", 0);
    client.send(DATA, 0, 1, b"");
    client.send(DATA, END_STREAM, 1, b"abc");
    let answer = client.receive_kind(DATA).unwrap();
    assert_eq!((answer.flags & END_STREAM, answer.payload), (END_STREAM, b"read 3".to_vec()));
}

#[test]
fn a_client_that_waits_for_it_is_told_to_continue() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.send(HEADERS, END_HEADERS, 1, &expecting_head("/read", "100-continue"));
    let told = client.receive_kind(HEADERS).unwrap();
    assert_eq!((told.stream, told.flags, &*told.payload), (1, END_HEADERS, CONTINUE));
    client.send(DATA, END_STREAM, 1, b"hello");
    let head = client.receive_kind(HEADERS).unwrap();
    assert_eq!((head.stream, head.payload.first()), (1, Some(&0x88)), "one 100 and then the answer");
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"read 5");
}

#[test]
fn nobody_is_told_to_continue_whose_body_is_not_asked_for_or_is_there() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.send(HEADERS, END_HEADERS, 1, &expecting_head("/refuse", "100-continue"));
    let refused = client.receive_kind(HEADERS).unwrap();
    assert!(!refused.payload.starts_with(CONTINUE));
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"refused");
    // In one write, so that it is there when it is asked for.
    let whole = [
        frame(HEADERS, END_HEADERS, 3, &expecting_head("/read", "100-continue")),
        frame(DATA, END_STREAM, 3, b"hello"),
    ]
    .concat();
    client.0.write_all(&whole).unwrap();
    let answer = client.receive_kind(HEADERS).unwrap();
    assert_eq!((answer.stream, answer.payload.first()), (3, Some(&0x88)));
    // Nor who has begun to send, although the rest is waited for.
    let begun = [frame(HEADERS, END_HEADERS, 5, &expecting_head("/read", "100-continue")), frame(DATA, 0, 5, b"hel")];
    client.0.write_all(&begun.concat()).unwrap();
    // That of the stream before, and this one.
    running.wait_for(|event| *event == Event::Began("/read".into()));
    running.wait_for(|event| *event == Event::Began("/read".into()));
    client.send(DATA, END_STREAM, 5, b"lo");
    let answer = client.receive_kind(HEADERS).unwrap();
    assert_eq!((answer.stream, answer.payload.first()), (5, Some(&0x88)));
}

#[test]
fn a_body_that_its_client_breaks_off_is_not_taken_for_whole_whatever_the_reason() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    for (stream, reason) in [(1, 0u32), (3, 8), (5, 2)] {
        client.request(stream, "/read", 0);
        client.send(DATA, 0, stream, b"abc");
        running.wait_for(|event| *event == Event::Began("/read".into()));
        client.send(RST_STREAM, 0, stream, &reason.to_be_bytes());
        let read = running.wait_for(|event| matches!(event, Event::Body(_)));
        assert_eq!(read, Event::Body(Err(BodyFault::ClientGone)), "{reason}");
    }
}

#[test]
fn answers_have_a_date_and_a_length_if_they_say_nothing_else() {
    let settings = HttpSettings::new(&limits());
    let mut fields = http::HeaderMap::new();
    settings.complete(&mut fields, Some(5));
    assert_eq!(fields.get("content-length").unwrap(), "5");
    assert!(fields.get("date").unwrap().to_str().unwrap().ends_with(" GMT"));
    let said = [("content-length", "7"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
    for (name, value) in said {
        fields.insert(name, http::HeaderValue::from_static(value));
    }
    settings.complete(&mut fields, Some(5));
    assert!(said.iter().all(|(name, value)| fields.get(*name).unwrap() == value), "{fields:?}");
}

#[test]
fn an_answer_that_closes_in_http1_is_an_answer_like_any_other() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    // The service refuses a padded value with `Connection: close`.
    let mut padded = head("/");
    literal(&mut padded, "x", " a");
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &padded);
    assert_eq!(client.receive_kind(HEADERS).unwrap().payload.first(), Some(&0x8c), "400");
    client.request(3, "/", END_STREAM);
    assert_eq!(client.receive_kind(DATA).unwrap().payload, b"hello");
}

/// An extended CONNECT (RFC 8441 §4).
fn connect_head(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path), (":authority", "a")]
    {
        literal(&mut block, name, value);
    }
    block
}

/// Opens a stream that is switched.
fn switch(client: &mut Client, stream: u32) {
    client.send(HEADERS, END_HEADERS, stream, &connect_head("/switch"));
    let head = client.receive_kind(HEADERS).unwrap();
    assert_eq!((head.stream, head.flags & END_STREAM), (stream, 0));
}

#[test]
fn a_switched_stream_that_its_client_resets_is_over_at_once_whatever_the_reason() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    for (stream, reason) in [(1, 0u32), (3, 8), (5, 2)] {
        switch(&mut client, stream);
        client.send(DATA, 0, stream, b"abc");
        client.send(RST_STREAM, 0, stream, &reason.to_be_bytes());
        running.wait_for(|event| *event == Event::Body(Err(BodyFault::ClientGone)));
        running.wait_for(|event| *event == Event::Abandoned);
    }
    // The same when its end came first.
    switch(&mut client, 7);
    client.send(DATA, END_STREAM, 7, b"abc");
    running.wait_for(|event| *event == Event::Body(Ok(3)));
    client.send(RST_STREAM, 0, 7, &8u32.to_be_bytes());
    running.wait_for(|event| *event == Event::Abandoned);
    // And when the connection goes.
    switch(&mut client, 9);
    drop(client);
    running.wait_for(|event| *event == Event::Abandoned);
}

#[test]
fn a_client_that_takes_little_at_a_time_but_enough_is_not_cut() {
    let running = Running::cleartext(ServerLimits { body_idle_timeout: SHORT, ..limits() });
    let mut client = Client::with_settings(&running, &[0, 4, 0, 0, 0, 0]);
    client.request(1, "/some", END_STREAM);
    client.receive_kind(HEADERS).unwrap();
    let mut taken = 0;
    let begun = Instant::now();
    // Far longer than it may be silent, and far less than is handed over at once.
    while begun.elapsed() < 5 * SHORT {
        client.send(WINDOW_UPDATE, 0, 1, &500u32.to_be_bytes());
        let part = client.receive().unwrap();
        assert_eq!((part.kind, part.payload.len()), (DATA, 500));
        taken += 500;
        std::thread::sleep(SHORT / 6);
    }
    client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    let ended = running.wait_for(|event| matches!(event, Event::Ended(_)));
    assert_eq!(ended, Event::Ended(StreamEnd { bytes: taken, how: HowEnded::ClientGone }));
}

#[test]
fn an_answer_of_which_the_client_took_nothing_is_not_told_to_be_complete() {
    let running = Running::cleartext(limits());
    let mut client = Client::with_settings(&running, &[0, 4, 0, 0, 0, 0]);
    client.request(1, "/", END_STREAM);
    client.receive_kind(HEADERS).unwrap();
    client.send(RST_STREAM, 0, 1, &8u32.to_be_bytes());
    let ended = running.wait_for(|event| matches!(event, Event::Ended(_)));
    assert_eq!(ended, Event::Ended(StreamEnd { bytes: 0, how: HowEnded::ClientGone }));
}

#[test]
fn an_expectation_that_is_another_is_not_answered() {
    let running = Running::cleartext(limits());
    let mut client = Client::connect(&running);
    client.send(HEADERS, END_HEADERS, 1, &expecting_head("/read", "bananas"));
    running.wait_for(|event| *event == Event::Began("/read".into()));
    client.send(DATA, END_STREAM, 1, b"hello");
    assert_eq!(client.receive_kind(HEADERS).unwrap().payload.first(), Some(&0x88));
}
