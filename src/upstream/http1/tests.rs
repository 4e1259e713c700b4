//! Answers of every kind, in any pieces: what they are read as, and that nothing is taken which hyper's client would not take, nor as
//! anything else.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should panic")]

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{answers::Answers, outgoing::Outgoing, *};
use crate::{
    telemetry::with_causes,
    upstream::{FaultKind, InvalidAnswer, UpstreamFault, answer, framing::frame, lease::Afterwards, upload::Upload},
};

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
fn blank_lines_before_an_answer_are_nothing_however_many() {
    let answer = format!("{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "\r\n".repeat(100_000));
    let pieces: Vec<&[u8]> = answer.as_bytes().chunks(1).collect();
    assert_eq!(read(&pieces, &Method::GET).unwrap().2, b"ok");
    assert_eq!(text("\n\r\n\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap(), "ok");
    assert!(text("\r\rHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err());
}

#[test]
fn a_trailer_section_is_found_however_it_comes_and_bounded() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    for (length, is_taken) in [(10_000, true), (16_000, true), (16_400, false), (60_000, false)] {
        let answer = format!("{head}x: {}\r\n\r\n", "y".repeat(length));
        for size in [1, 2, 3, 4, 5, 8192, 100_000] {
            let pieces: Vec<&[u8]> = answer.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces, &Method::GET).is_ok(), is_taken, "{length} by {size}");
        }
    }
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
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx y: z\r\n\r\n", "invalid answer: its trailers"),
        ("HTTP/1.1 099 Low\r\n\r\n", "invalid answer: its status"),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "invalid answer: ambiguous Content-Length"),
        ("HTTP/1.1 200 OK\r\nx", "connection lost before the answer was whole: closed within the head of its answer"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "connection lost before the answer was whole: closed within the body of its answer",
        ),
    ] {
        assert_eq!(with_causes(&read_answer([answer.as_bytes()], &Method::GET).unwrap_err()), said);
    }
    let fault = read_answer([&b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"[..]], &Method::GET).unwrap_err();
    assert!(matches!(fault, UpstreamFault::Invalid(InvalidAnswer::ContentLength)));
}

/// What hyper refuses is refused, and what is taken is taken as the same. Here more is refused. Whether it was taken.
fn is_as_strict_as_hyper(bytes: &[u8], asked: &Method) -> bool {
    let Ok(ours) = read(&[bytes], asked) else { return false };
    let Some(mut hypers) = read_by_hyper(bytes, asked) else { panic!("hyper refuses {}", shown(bytes)) };
    // What `Transfer-Encoding` overrides is taken away (RFC 9112 §6.3), and a length is written in the usual way.
    if hypers.1.contains_key("transfer-encoding") {
        hypers.1.remove("content-length");
    } else if let Some(length) = hypers.1.get_mut("content-length") {
        *length = length.to_str().unwrap().parse::<u64>().unwrap().into();
    }
    assert_eq!(ours, hypers, "{}", shown(bytes));
    true
}

/// Pieces of answers, of which any order may come.
const WORDS: [&str; 45] = [
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
    "content-length: 03\r\n",
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

#[test]
fn nothing_is_taken_that_hyper_refuses_nor_as_anything_else() {
    let words = prop::collection::vec(0_usize..WORDS.len(), 0..8);
    let inputs = (
        0_usize..8,
        prop::collection::vec(0_usize..WORDS.len(), 0..4),
        words,
        0_usize..10,
        any::<prop::sample::Index>(),
    );
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(3000));
    let tried = runner.run(&inputs, |(begin, head, body, how, cut)| {
        let words = [begin].into_iter().chain(head).map(|at| WORDS.get(at)).chain([Some(&"\r\n")]);
        let answer: String = words.chain(body.iter().map(|at| WORDS.get(*at))).map(|word| *word.unwrap()).collect();
        let asked = if how == 0 { Method::HEAD } else { Method::GET };
        let is_taken = is_as_strict_as_hyper(answer.as_bytes(), &asked);
        taken.set(taken.get() + u32::from(is_taken));
        let whole = read_in_any_pieces(answer.as_bytes(), &asked);
        let (first, second) = answer.as_bytes().split_at(cut.index(answer.len()));
        prop_assert_eq!(read_on_a_connection([first, second], &asked, false).0, whole, "{:?}", answer);
        Ok(())
    });
    tried.unwrap();
    assert!(taken.get() > 300, "of 3000 only {} were answers", taken.get());
}

#[test]
fn a_length_with_zeros_before_it_is_the_same_length_written_in_the_usual_way() {
    for (written, body, usual) in [("010", "0123456789", "10"), ("00", "", "0"), ("0003", "abc", "3")] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {written}\r\n\r\n{body}");
        assert!(is_as_strict_as_hyper(answer.as_bytes(), &Method::GET), "{written}");
        let (_, headers, read, _) = read_in_any_pieces(answer.as_bytes(), &Method::GET).unwrap();
        assert_eq!((&headers["content-length"], &*read), (&usual.parse().unwrap(), body.as_bytes()), "{written}");
    }
}

#[test]
fn an_answer_with_some_bytes_changed_is_read_as_hyper_reads_it_or_not_at_all() {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(3000));
    let tried = runner.run(&(any::<bool>(), changes), |(chunked, changes)| {
        let answer = if chunked {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-own: yes\r\n\r\n3;e=1\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 15:00:00 GMT\r\ncontent-length: 10\r\nconnection: keep-alive\r\n\r\n0123456789"
        };
        let mut answer = answer.as_bytes().to_vec();
        for (at, byte) in changes {
            *at.get_mut(&mut answer) = byte;
        }
        taken.set(taken.get() + u32::from(is_as_strict_as_hyper(&answer, &Method::GET)));
        Ok(())
    });
    tried.unwrap();
    assert!(taken.get() > 300, "of 3000 only {} were answers", taken.get());
}

/// What a socket does when it is written to: takes so many bytes, or none for now.
struct Scripted {
    takes: VecDeque<usize>,
    wrote: Vec<u8>,
}

impl Scripted {
    fn take(&mut self, slices: &[&[u8]], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Some(most) = self.takes.pop_front() else { panic!("more writes than anybody needs") };
        if most == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = self.wrote.len();
        slices.iter().flat_map(|slice| *slice).take(most).for_each(|byte| self.wrote.push(*byte));
        Poll::Ready(Ok(self.wrote.len() - before))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(&[bytes], cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.take(&slices, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A body that comes in these parts, with a pause before each that is `None`.
struct Parts {
    parts: VecDeque<Option<Frame<Bytes>>>,
    length: Option<u64>,
    /// Whether its end is known with its last part, or only when it is asked again.
    tells_end: bool,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.parts.pop_front() {
            Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tells_end && self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What is on the wire of a request, where the socket takes what it takes.
fn wire_of(method: Method, target: &'static str, body: Parts, takes: impl IntoIterator<Item = usize>) -> String {
    let mut request = Request::builder().method(method).uri(target).header("trailer", "X-Sum, x-other");
    request = request.header("host", "a");
    let mut request = request.body(Upload::new(body, tokio::time::Instant::now())).unwrap();
    frame(&mut request);
    let (head, body) = request.into_parts();
    let (mut outgoing, mut socket) =
        (Outgoing::new(), Scripted { takes: takes.into_iter().collect(), wrote: Vec::new() });
    outgoing.begin(&head, body);
    for _ in 0..100_000 {
        if let Poll::Ready(sent) = outgoing.poll_send(&mut socket, &mut Context::from_waker(Waker::noop())) {
            sent.unwrap();
            assert!(outgoing.is_over());
            return String::from_utf8(socket.wrote).unwrap();
        }
    }
    panic!("it never ends: {}", shown(&socket.wrote))
}

fn parts(sizes: &[Option<usize>], length: Option<u64>, tells_end: bool) -> Parts {
    let data = |size: &usize| Frame::data(Bytes::from(vec![b'x'; *size]));
    Parts { parts: sizes.iter().map(|size| size.as_ref().map(data)).collect(), length, tells_end }
}

#[test]
fn a_request_is_written_as_it_is() {
    let sum =
        HeaderMap::from_iter([("x-sum", "1"), ("x-not-announced", "2")].map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        }));
    let with_trailers = |length| Parts {
        parts: [Some(Frame::data("abc".into())), None, Some(Frame::trailers(sum.clone()))].into(),
        length,
        tells_end: false,
    };
    let whole = |method, target, body| wire_of(method, target, body, std::iter::repeat_n(usize::MAX, 9));
    let nothing = || parts(&[], None, true);
    for (target, sent) in
        [("/a/%2f?b=c", "/a/%2f?b=c"), ("*", "*"), ("/", "/"), ("http://a?x=1", "/?x=1"), ("http://a", "/")]
    {
        let expected = format!("OPTIONS {sent} HTTP/1.1\r\ntrailer: X-Sum, x-other\r\nhost: a\r\n\r\n");
        assert_eq!(whole(Method::OPTIONS, target, nothing()), expected);
    }
    let body = |wire: String| wire.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(whole(Method::POST, "/", with_trailers(None))), "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(body(whole(Method::POST, "/", with_trailers(Some(3)))), "abc");
    for method in [Method::GET, Method::DELETE, Method::POST] {
        assert_eq!(body(whole(method, "/", parts(&[None, None], Some(0), false))), "");
    }
    // A body that was found to be empty after its head was made, as one is that comes back from another connection.
    for (length, end) in [(None, "0\r\n\r\n"), (Some(3), "the error")] {
        let mut request = Request::builder().method(Method::POST).uri("/");
        request = request.header("host", "a");
        let mut request =
            request.body(Upload::new(parts(&[Some(3)], length, false), tokio::time::Instant::now())).unwrap();
        frame(&mut request);
        let (head, _) = request.into_parts();
        let (mut outgoing, mut socket) =
            (Outgoing::<Parts>::new(), Scripted { takes: [usize::MAX; 3].into(), wrote: Vec::new() });
        outgoing.begin(&head, Upload::empty());
        let Poll::Ready(sent) = outgoing.poll_send(&mut socket, &mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        assert_eq!(sent.is_ok(), length.is_none());
        let wrote = String::from_utf8(socket.wrote).unwrap();
        assert_eq!(wrote.split_once("\r\n\r\n").map_or("the error", |(_, body)| body), end);
    }
    // Nothing is no chunk: it would be the last.
    assert_eq!(body(whole(Method::GET, "/", parts(&[Some(0), Some(1), Some(0)], None, false))), "1\r\nx\r\n0\r\n\r\n");
}

#[test]
fn a_socket_that_takes_a_part_and_not_its_end_is_given_the_end_first() {
    // The head, its size, the part; then nothing, or one byte of the two that end it, and nothing.
    for (extra, size) in [(0, 5000), (1, 5000), (0, 4097), (1, 4096)] {
        let sizes = [Some(size), Some(size), Some(3)];
        let head = wire_of(Method::POST, "/", parts(&[], None, false), std::iter::repeat_n(usize::MAX, 9)).len() - 5;
        let first = head + format!("{size:x}\r\n").len() + size + extra;
        let takes = [first, 0, 0].into_iter().chain(std::iter::repeat_n(usize::MAX, 20));
        let wire = wire_of(Method::POST, "/", parts(&sizes, None, false), takes);
        let chunk = |size: usize| format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        assert!(
            wire.ends_with(&format!("\r\n\r\n{}{}{}0\r\n\r\n", chunk(size), chunk(size), chunk(3))),
            "{extra} {size}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_the_socket_takes_at_a_time_the_request_is_the_same(
        sizes in prop::collection::vec(prop_oneof![
            Just(None), Just(Some(0)), (1_usize..20).prop_map(Some), (4090_usize..4100).prop_map(Some), (4000_usize..9000).prop_map(Some),
        ], 0..8),
        takes in prop::collection::vec(prop_oneof![Just(0), 1_usize..4, 1_usize..5000, 4090_usize..4110], 0..30),
        is_known: bool, tells_end: bool,
    ) {
        let all: usize = sizes.iter().flatten().sum();
        let length = is_known.then_some(all as u64);
        let takes = takes.into_iter().chain(std::iter::repeat_n(4001, 40));
        let wire = wire_of(Method::POST, "/", parts(&sizes, length, tells_end), takes);
        let (head, body) = wire.split_once("\r\n\r\n").unwrap();
        let is_chunked = head.contains("transfer-encoding: chunked");
        let chunks: String = sizes.iter().flatten().filter(|size| **size > 0).map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect();
        let expected = if is_chunked { chunks + "0\r\n\r\n" } else { "x".repeat(all) };
        prop_assert!(body == expected, "{} {} {}", sizes.len(), body.len(), expected.len());
        prop_assert!(is_chunked != head.contains("content-length:"));
    }
}

/// What a connection makes of an answer that comes in two pieces, and whether it could be used again.
fn read_on_a_connection(pieces: [&[u8]; 2], asked: &Method, stays: bool) -> (Result<Read, FaultKind>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (ours, mut service) = tokio::io::duplex(1 << 20);
        let now = tokio::time::Instant::now();
        let asked = Request::builder().method(asked.clone()).uri("/").body(Upload::<Empty<Bytes>>::empty()).unwrap();
        let mut exchange = Exchange::begin(Box::new(Connection::new(Box::new(ours), now)), asked, now);
        let exchanging = async move {
            let patience = Duration::from_secs(20);
            let answered = poll_fn(|cx| exchange.poll_answer(cx, patience)).await;
            let mut answer = answered.map_err(|lost| (lost.fault.kind(), None))?.answer;
            let mut connection = exchange.into_connection();
            let invalid = |_| (FaultKind::Invalid, None);
            let checked = answer::check(&mut answer, false).map_err(invalid)?;
            connection.begin_body(&answer, &checked).map_err(invalid)?;
            let (mut body, mut trailers) = (Vec::new(), None);
            while let Some(frame) = poll_fn(|cx| connection.poll_body(cx)).await {
                match frame.map_err(|fault| (fault.kind(), None))?.into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            let is_kept = checked.afterwards == Afterwards::Reuse && connection.may_be_kept() && connection.is_quiet();
            Ok((answer.status().as_u16(), answer.headers().clone(), body, trailers, is_kept))
        };
        let serving = async {
            for piece in pieces {
                // An answer that is not taken ends the connection at once.
                let _ = service.write_all(piece).await;
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            if !stays {
                let _ = service.shutdown().await;
            }
            service
        };
        let (read, _service) = tokio::join!(exchanging, serving);
        match read {
            Ok((status, fields, body, trailers, is_kept)) => (Ok((status, fields, body, trailers)), is_kept),
            Err((kind, None::<()>)) => (Err(kind), false),
            Err(_) => unreachable!(),
        }
    })
}

#[test]
fn a_connection_is_kept_where_nothing_speaks_against_it() {
    let get = Method::GET;
    for (answer, asked, kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", &get, true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n", &get, true),
        ("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", &get, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", &Method::HEAD, true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", &get, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\r\n", &get, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", &get, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", &get, false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", &get, false),
    ] {
        for cut in 0..answer.len() {
            let (first, second) = answer.as_bytes().split_at(cut);
            let (read, is_kept) = read_on_a_connection([first, second], asked, true);
            assert!(read.is_ok(), "{answer:?} cut at {cut}");
            // What comes behind an answer may come later than its connection is put away; then it is heard there.
            assert!(
                is_kept == kept || (answer.ends_with("ok\r\n") && cut == answer.len() - 2),
                "{answer:?} cut at {cut}"
            );
        }
    }
    let (read, is_kept) = read_on_a_connection([b"HTTP/1.1 200 OK\r\n\r\n", b"ok"], &get, false);
    assert!(read.is_ok() && !is_kept);
}

#[test]
fn a_service_that_is_deaf_and_dumb_is_found_to_be_late() {
    struct Deaf;
    impl AsyncRead for Deaf {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let now = tokio::time::Instant::now();
        let body = Upload::new(parts(&[Some(5), None], None, false), now);
        let mut request = Request::builder().method(Method::POST).uri("/").body(body).unwrap();
        frame(&mut request);
        let mut exchange = Exchange::begin(Box::new(Connection::new(Box::new(Deaf), now)), request, now);
        let waiting = poll_fn(|cx| exchange.poll_answer(cx, Duration::from_millis(50)));
        let lost = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().err().unwrap();
        assert!(matches!(lost.fault, UpstreamFault::Timeout), "{:?}", lost.fault);
    });
}

#[test]
fn a_service_that_takes_a_body_slowly_but_steadily_is_not_late() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        const STEP: usize = 64 * 1024;
        // No more than one step is ever between the two, so that what is written is what is taken.
        let (ours, mut service) = tokio::io::duplex(STEP);
        let now = tokio::time::Instant::now();
        // In one part: of the client there is nothing more to be heard.
        let body = Upload::new(parts(&[Some(40 * STEP)], Some(40 * STEP as u64), true), now);
        let mut request = Request::builder().method(Method::POST).uri("/").body(body).unwrap();
        frame(&mut request);
        let mut exchange = Exchange::begin(Box::new(Connection::new(Box::new(ours), now)), request, now);
        let answered = poll_fn(|cx| exchange.poll_answer(cx, Duration::from_millis(600)));
        let serving = async {
            let mut step = vec![0; STEP];
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                tokio::io::AsyncReadExt::read_exact(&mut service, &mut step).await.unwrap();
            }
            service.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            service
        };
        let (answered, _service) = tokio::join!(answered, serving);
        assert_eq!(answered.map_err(|lost| lost.fault).unwrap().answer.status(), 204);
    });
}

#[test]
fn room_that_a_long_answer_took_is_let_go_of() {
    let mut answers = Answers::new();
    answers.begin();
    let feed = |answers: &mut Answers, most: usize| {
        let room = answers.room();
        let count = most.min(room.capacity() - room.len());
        room.resize(room.len() + count, b'x');
        answers.grow();
        count
    };
    assert_eq!(feed(&mut answers, usize::MAX), 8 * 1024);
    drop(answers.into_unread());
    let mut answers = Answers::new();
    let mut steps = Vec::new();
    for _ in 0..5 {
        let count = feed(&mut answers, usize::MAX);
        steps.push(count);
        answers.room().clear();
    }
    assert!(steps.is_sorted() && steps.last().is_some_and(|last| *last >= 128 * 1024), "{steps:?}");
    answers.shrink();
    assert_eq!(answers.room().capacity() / 1024, 128, "of the last one, until another begins");
    answers.begin();
    answers.shrink();
    assert!(answers.room().capacity() <= 16 * 1024);
}
