//! Answers of every kind, in any pieces: what they are read as, and that nothing is taken which hyper's client would not take, nor as
//! anything else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should panic")]

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::upstream::{FaultKind, InvalidAnswer, UpstreamFault};

/// Status, fields, body and trailers.
type Read = (u16, HeaderMap, Vec<u8>, Option<HeaderMap>);

fn read(pieces: &[&[u8]], asked: &Method) -> Result<Read, FaultKind> {
    match read_answer(pieces.iter().copied(), asked) {
        Ok(WholeAnswer { head, body, trailers, unread: _ }) => {
            Ok((head.status().as_u16(), head.headers().clone(), body, trailers))
        }
        Err(fault) => Err(fault.kind()),
    }
}

/// What is read, however the bytes come.
fn read_in_any_pieces(bytes: &[u8], asked: &Method) -> Result<Read, FaultKind> {
    let whole = read(&[bytes], asked);
    for size in [1, 2, 3, 7] {
        assert_eq!(read(&bytes.chunks(size).collect::<Vec<_>>(), asked), whole, "{size} at a time: {}", shown(bytes));
    }
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(read(&[first, second], asked), whole, "cut at {cut}: {}", shown(bytes));
    }
    whole
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn text(bytes: &str) -> Result<String, FaultKind> {
    read_in_any_pieces(bytes.as_bytes(), &Method::GET).map(|(_, _, body, _)| String::from_utf8(body).unwrap())
}

/// What hyper's client makes of it.
fn read_by_hyper(bytes: &[u8], asked: &Method) -> Option<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (ours, mut service) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        let bytes = bytes.to_vec();
        let asked = Request::builder().method(asked.clone()).uri("/").body(Empty::<Bytes>::new()).unwrap();
        let exchange = async move {
            let answer = sender.send_request(asked).await.ok()?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.ok()?;
            let trailers = body.trailers().cloned();
            Some((head.status.as_u16(), head.headers, body.to_bytes().to_vec(), trailers))
        };
        let serving = async {
            // Once the request is there: what comes before is no answer.
            let mut first = [0];
            tokio::io::AsyncReadExt::read_exact(&mut service, &mut first).await.unwrap();
            service.write_all(&bytes).await.unwrap();
            service.shutdown().await.unwrap();
            service
        };
        let (read, _, _) = tokio::join!(exchange, connection, serving);
        read
    })
}

#[test]
fn a_body_ends_where_its_head_says() {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef", "abc"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nabc", ""),
        ("HTTP/1.1 200 OK\r\n\r\nall that comes", "all that comes"),
        ("HTTP/1.1 200 OK\r\n\r\n", ""),
        ("HTTP/1.0 200 OK\r\n\r\nall", "all"),
        ("HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na", "a"),
        ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", "a"),
        ("HTTP/1.1 200 OK\ncontent-length: 1\n\na", "a"),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc", ""),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nabc", ""),
        ("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1 \t \r\na\r\n0002;x=\"y\";z\r\nbc\r\n000\r\n\r\n",
            "abc",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\n0123456789\r\n1 ; e\r\na\r\n0\r\n\r\n",
            "0123456789a",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
            "a",
        ),
    ] {
        assert_eq!(text(answer).as_deref(), Ok(body), "{answer:?}");
    }
    let to_head = |answer: &str| read_in_any_pieces(answer.as_bytes(), &Method::HEAD).unwrap().2;
    assert!(to_head("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").is_empty());
    assert!(to_head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").is_empty());
}

#[test]
fn what_is_not_there_is_missed() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    ];
    for answer in answers {
        assert!(text(answer).is_ok());
        for end in 0..answer.len() {
            assert_eq!(text(&answer[..end]), Err(FaultKind::Reset), "{:?}", &answer[..end]);
        }
    }
}

#[test]
fn chunks_that_two_readers_could_take_differently_are_refused() {
    for chunks in [
        "\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
        "3a;\x7f\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "00000000000000003\r\nabc\r\n0\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\nx: y\nz: a\r\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\nx: y\r\n z\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n\nx: y\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(text(&answer), Err(FaultKind::Invalid), "{chunks:?}");
    }
}

#[test]
fn heads_that_two_readers_could_take_differently_are_refused() {
    for head in [
        "HTTP/1.1 200 OK\r\nx : y",
        "HTTP/1.1 200 OK\r\n x: y",
        "HTTP/1.1 200 OK\r\nx: y\r\n z",
        "HTTP/1.1 200 OK\r\nx",
        "HTTP/1.1 200 OK\r\nx: a\0b",
        "HTTP/1.1 200 OK\r\nx: a\rb",
        "HTTP/1.1 200 OK\r\nx y: z",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 1000 High",
        "HTTP/1.1  200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 1",
        "HTTP/1.1 200 OK\r\ncontent-length: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 1a",
        "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: ",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x",
    ] {
        assert_eq!(text(&format!("{head}\r\n\r\na")), Err(FaultKind::Invalid), "{head:?}");
    }
}

#[test]
fn everything_has_a_bound() {
    let fields = |count: usize| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(text(&fields(100)), Ok(String::new()));
    assert_eq!(text(&fields(101)), Err(FaultKind::Invalid));
    let whole = |answer: String| read(&[answer.as_bytes()], &Method::GET).map(|read| read.2.len());
    let byte_by_byte = |answer: String| {
        let pieces: Vec<_> = answer.as_bytes().chunks(1).collect();
        read(&pieces, &Method::GET).map(|read| read.2.len())
    };
    let long = |length: usize| format!("HTTP/1.1 204 No Content\r\nx: {}\r\n\r\n", "y".repeat(length));
    for read in [&whole as &dyn Fn(String) -> _, &byte_by_byte] {
        assert_eq!(read(long(65_000)), Ok(0));
        assert_eq!(read(long(66_000)), Err(FaultKind::Invalid));
        assert_eq!(read(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(66_000))), Err(FaultKind::Invalid));
    }
    let chunked = |chunks: String| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    let line = |length: usize| chunked(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length)));
    let lines = |count: usize| chunked(format!("{}0\r\n\r\n", "1;xxxxxxx\r\na\r\n".repeat(count)));
    let trailers = |length: usize| chunked(format!("0\r\nx: {}\r\n\r\n", "y".repeat(length)));
    let trailing = |count: usize| chunked(format!("0\r\n{}\r\n", "x: y\r\n".repeat(count)));
    for (good, bad) in [
        (line(4000), line(4100)),
        (line(4000), chunked(format!("1;{}", "x".repeat(4100)))),
        (lines(2000), lines(2100)),
        (trailers(16_000), trailers(17_000)),
        (trailers(16_000), chunked(format!("0\r\nx: {}", "y".repeat(17_000)))),
        (trailing(100), trailing(101)),
    ] {
        assert!(whole(good).is_ok());
        assert_eq!(whole(bad.clone()), Err(FaultKind::Invalid), "{bad:.100}");
        assert_eq!(byte_by_byte(bad), Err(FaultKind::Invalid));
    }
}

#[test]
fn trailers_come_with_their_names_and_values() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nX-One:  1 \r\nx-two: 2\r\nx-one: 3\r\n\r\n";
    let trailers = read_in_any_pieces(answer.as_bytes(), &Method::GET).unwrap().3.unwrap();
    let mut expected = HeaderMap::new();
    for (name, value) in [("x-one", "1"), ("x-two", "2"), ("x-one", "3")] {
        expected.append(name, value.parse().unwrap());
    }
    assert_eq!(trailers, expected);
}

#[test]
fn what_came_behind_an_answer_is_told_and_no_part_of_it() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ] {
        let both = format!("{answer}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        let read = read_answer([both.as_bytes()], &Method::GET).unwrap();
        assert_eq!((&*read.body, &*read.unread), (&b"a"[..], &both.as_bytes()[answer.len()..]));
    }
}

#[test]
fn a_reason_of_ones_own_is_passed_on_and_the_usual_one_takes_no_room() {
    let reason = |line: &str| {
        let head = read_answer([format!("{line}\r\ncontent-length: 0\r\n\r\n").as_bytes()], &Method::GET).unwrap().head;
        head.extensions().get::<ReasonPhrase>().map(|reason| String::from_utf8(reason.as_bytes().to_vec()).unwrap())
    };
    assert_eq!(reason("HTTP/1.1 200 OK"), None);
    assert_eq!(reason("HTTP/1.1 200 Fine").as_deref(), Some("Fine"));
    assert_eq!(reason("HTTP/1.1 299 Own").as_deref(), Some("Own"));
}

#[test]
fn a_fault_says_what_is_wrong() {
    for (answer, said) in [
        ("HTTP/2 200 OK\r\n\r\n", "invalid answer: its head: invalid HTTP version"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "invalid answer: a chunk of its body"),
        ("HTTP/1.1 099 Low\r\n\r\n", "invalid answer: its status"),
    ] {
        assert_eq!(read_answer([answer.as_bytes()], &Method::GET).unwrap_err().to_string(), said);
    }
    let fault = read_answer([&b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"[..]], &Method::GET).unwrap_err();
    assert!(matches!(fault, UpstreamFault::Invalid(InvalidAnswer::ContentLength)));
}

/// What hyper refuses is refused, and what is taken is taken as the same. Here more is refused.
fn is_as_strict_as_hyper(bytes: &[u8], asked: &Method) {
    let Ok(ours) = read(&[bytes], asked) else { return };
    let Some(mut hypers) = read_by_hyper(bytes, asked) else { panic!("hyper refuses {}", shown(bytes)) };
    // The one thing that is taken away: what `Transfer-Encoding` overrides (RFC 9112 §6.3).
    if hypers.1.contains_key("transfer-encoding") {
        hypers.1.remove("content-length");
    }
    assert_eq!(ours, hypers, "{}", shown(bytes));
}

/// Pieces of answers, of which any order may come.
const WORDS: [&str; 44] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 x\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n",
    "HTTP/1.1 101 x\r\n",
    "HTTP/1.1 200\r\n",
    "HTTP/1.1 200 OK\n",
    "content-length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length: 10\r\n",
    "content-length : 3\r\n",
    "content-length: +3\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: Chunked\r\n",
    "transfer-encoding: gzip\r\n",
    "transfer-encoding:\tchunked \r\n",
    "transfer-encoding\r\n: chunked\r\n",
    "x: y\r\n",
    "x: y\n",
    "x:\r\n",
    "connection: close\r\n",
    " folded\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "0\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "3;e=1\r\nabc\r\n",
    "3 \r\nabc\r\n",
    "a\r\n0123456789\r\n",
    "3\r\n",
    "3\n",
    "abc",
    "00",
    "fffffffffffffffff\r\n",
    ";",
    " ",
    "\t",
    "\0",
    "\u{e9}",
    ":",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_is_taken_that_hyper_refuses_nor_as_anything_else(
        begin in 0_usize..8, head in prop::collection::vec(0_usize..WORDS.len(), 0..4),
        body in prop::collection::vec(0_usize..WORDS.len(), 0..8), to_head in prop::bool::weighted(0.1),
    ) {
        let mut answer = String::new();
        for word in [begin].iter().chain(&head).map(|at| WORDS.get(*at)).chain([Some(&"\r\n")]).chain(body.iter().map(|at| WORDS.get(*at))) {
            write!(answer, "{}", word.unwrap()).unwrap();
        }
        let asked = if to_head { Method::HEAD } else { Method::GET };
        is_as_strict_as_hyper(answer.as_bytes(), &asked);
        let _ = read_in_any_pieces(answer.as_bytes(), &asked);
    }

    #[test]
    fn an_answer_with_some_bytes_changed_is_read_as_hyper_reads_it_or_not_at_all(
        chunked: bool, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let answer = if chunked {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-own: yes\r\n\r\n3;e=1\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 15:00:00 GMT\r\ncontent-length: 10\r\nconnection: keep-alive\r\n\r\n0123456789"
        };
        let mut answer = answer.as_bytes().to_vec();
        for (at, byte) in changes {
            *at.get_mut(&mut answer) = byte;
        }
        is_as_strict_as_hyper(&answer, &Method::GET);
    }
}
