//! Real sockets of the kernel, on one thread, as a worker has them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should panic")]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream as Peer,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::{JoinHandle, LocalSet, yield_now},
    time::timeout,
};

use super::*;

type Stream = Corked<UnixStream>;

/// Runs a test as a worker's task, beside the one that sends.
fn worker<T, F: Future<Output = T>>(test: impl FnOnce(JoinHandle<()>) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let sender = spawn_local(uncork());
        yield_now().await;
        timeout(Duration::from_secs(20), test(sender)).await.unwrap_or_else(|_| panic!("the test hangs"))
    })
}

async fn pair() -> (Stream, Peer) {
    let (ours, theirs) = Peer::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let ours = UnixStream::from_std(ours).unwrap();
    ours.writable().await.unwrap();
    (Corked::new(ours), theirs)
}

async fn pairs(count: usize) -> Vec<(Stream, Peer)> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(pair().await);
    }
    pairs
}

/// What has arrived, and whether it is the end.
fn arrived(peer: &mut Peer) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let ended = peer.read_to_end(&mut all);
    (all, ended.is_ok())
}

fn text(peer: &mut Peer) -> String {
    String::from_utf8(arrived(peer).0).unwrap()
}

/// A socket that is full, which is yet to be found out; gives how much is in it.
fn full() -> (Stream, Peer, usize) {
    let (mut ours, theirs) = Peer::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(count) = ours.write(&[b'f'; 512]) {
        filled += count;
    }
    (Corked::new(UnixStream::from_std(ours).unwrap()), theirs, filled)
}

/// Whether a flush has nothing to wait for.
async fn is_flushed(stream: &mut Stream) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_flush(cx).is_ready())).await
}

#[test]
fn small_writes_go_out_at_the_end_of_the_turn_those_of_all_sockets() {
    worker(async |_| {
        let mut pairs = pairs(QUEUED).await;
        for (stream, peer) in &mut pairs {
            stream.write_all(b"one ").await.unwrap();
            assert_eq!(stream.write_vectored(&[IoSlice::new(b"two"), IoSlice::new(b" three")]).await.unwrap(), 9);
            stream.flush().await.unwrap();
            assert_eq!(text(peer), "");
        }
        yield_now().await;
        for (_, peer) in &mut pairs {
            assert_eq!(text(peer), "one two three");
        }
    });
}

#[test]
fn what_does_not_fit_goes_out_at_once_after_what_is_held() {
    worker(async |_| {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"head").await.unwrap();
        stream.write_all(&[b'b'; HELD_BYTES]).await.unwrap();
        let (all, _) = arrived(&mut peer);
        assert_eq!((all.len(), all.get(..5)), (4 + HELD_BYTES, Some(&b"headb"[..])));
        stream.write_all(b"tail").await.unwrap();
        assert_eq!(text(&mut peer), "");
        yield_now().await;
        assert_eq!(text(&mut peer), "tail");
    });
}

#[test]
fn a_peer_that_takes_nothing_holds_up_its_own_writer_alone_and_loses_nothing() {
    worker(async |_| {
        let (mut stream, mut peer, filled) = full();
        stream.write_all(b"held").await.unwrap();
        assert!(is_flushed(&mut stream).await, "the turn has not ended");
        yield_now().await;
        assert!(!is_flushed(&mut stream).await, "the peer has not taken it");
        let (mut other, mut others_peer) = pair().await;
        let writer = spawn_local(async move {
            stream.write_all(b" more").await.unwrap();
            stream.flush().await.unwrap();
            stream
        });
        other.write_all(b"other").await.unwrap();
        yield_now().await;
        yield_now().await;
        assert_eq!(text(&mut others_peer), "other");
        assert!(!writer.is_finished());
        let mut all = arrived(&mut peer).0;
        let mut stream = writer.await.unwrap();
        stream.shutdown().await.unwrap();
        let (rest, ended) = arrived(&mut peer);
        all.extend(rest);
        assert!(ended);
        assert_eq!(String::from_utf8(all.split_off(filled)).unwrap(), "held more");
        assert!(all.iter().all(|byte| *byte == b'f'));
    });
}

#[test]
fn who_wrote_learns_that_the_peer_takes_nothing_and_when_it_does_again() {
    worker(async |_| {
        let (mut stream, mut peer, _) = full();
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            if turns == 1 {
                assert!(matches!(Pin::new(&mut stream).poll_write(cx, b"held"), Poll::Ready(Ok(4))));
                return Poll::Pending;
            }
            let flushed = Pin::new(&mut stream).poll_flush(cx);
            if turns == 2 {
                assert!(flushed.is_pending());
                arrived(&mut peer);
            }
            flushed
        })
        .await
        .unwrap();
        assert_eq!(text(&mut peer), "held");
    });
}

#[test]
fn for_a_peer_that_is_behind_nothing_is_held_until_it_has_caught_up() {
    worker(async |_| {
        let (mut stream, mut peer) = pair().await;
        let chunk = [b'f'; 2 * HELD_BYTES];
        let mut write = async |bytes: &[u8]| {
            poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, bytes).map(Result::unwrap))).await
        };
        while write(&chunk).await.is_ready() {}
        assert!(write(b"small").await.is_pending());
        arrived(&mut peer);
        // The socket has to be heard of first.
        while write(&chunk).await.is_pending() {
            yield_now().await;
        }
        arrived(&mut peer);
        assert!(write(b"small").await.is_ready());
        assert_eq!(text(&mut peer), "");
        yield_now().await;
        assert_eq!(text(&mut peer), "small");
    });
}

#[test]
fn a_long_turn_sends_before_its_end() {
    worker(async |_| {
        let mut pairs = pairs(QUEUED + 1).await;
        for (stream, _) in &mut pairs {
            stream.write_all(b"x").await.unwrap();
        }
        let (_, mut last) = pairs.pop().unwrap();
        for (_, peer) in &mut pairs {
            assert_eq!(text(peer), "x");
        }
        assert_eq!(text(&mut last), "");
    });
}

#[test]
fn a_reset_that_a_send_finds_out_is_no_orderly_end_to_who_reads() {
    worker(async |_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut stream = Corked::new(ours);
        stream.write_all(b"unread").await.unwrap();
        yield_now().await;
        peer.peek(&mut [0]).unwrap();
        peer.write_all(b"why").unwrap();
        // Closed with something unread, TCP resets.
        drop(peer);
        stream.write_all(b"lost").await.unwrap();
        yield_now().await;
        let mut said = [0; 8];
        assert_eq!(stream.read(&mut said).await.unwrap(), 3);
        let read = stream.read(&mut said).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_fault_at_the_end_of_the_turn_wakes_its_owner_and_is_told_once() {
    worker(async |_| {
        let (mut stream, peer) = pair().await;
        drop(peer);
        let mut turns = 0;
        let told = poll_fn(|cx| {
            turns += 1;
            match turns {
                1 => {
                    assert!(matches!(Pin::new(&mut stream).poll_write(cx, b"lost"), Poll::Ready(Ok(4))));
                    Poll::Pending
                }
                _ => Pin::new(&mut stream).poll_flush(cx),
            }
        })
        .await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(stream.flush().await.is_ok());
        assert!(stream.write_all(&[0; 2 * HELD_BYTES]).await.is_err());
    });
}

#[test]
fn what_is_held_goes_out_though_its_owner_is_gone() {
    worker(async |_| {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"last words").await.unwrap();
        drop(stream);
        assert_eq!(arrived(&mut peer), (Vec::new(), false));
        yield_now().await;
        assert_eq!(arrived(&mut peer), (b"last words".to_vec(), true));
    });
}

#[test]
fn nobody_waits_for_a_peer_whose_connection_was_given_up() {
    worker(async |_| {
        for turns in [0, 2] {
            let (mut stream, mut peer, filled) = full();
            stream.write_all(b"held").await.unwrap();
            for _ in 0..turns {
                yield_now().await;
            }
            drop(stream);
            yield_now().await;
            yield_now().await;
            let (all, ended) = arrived(&mut peer);
            assert_eq!((all.len(), ended), (filled, true), "given up after {turns} turns");
        }
    });
}

#[test]
fn a_shutdown_comes_after_what_is_held() {
    worker(async |_| {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(arrived(&mut peer), (b"bye".to_vec(), true));
    });
}

#[test]
fn where_nobody_sends_nothing_is_held() {
    worker(async |sender| {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"held").await.unwrap();
        sender.abort();
        yield_now().await;
        assert_eq!(text(&mut peer), "held");
        stream.write_all(b"at once").await.unwrap();
        assert_eq!(text(&mut peer), "at once");
    });
}
