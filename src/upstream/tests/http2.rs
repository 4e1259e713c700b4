//! HTTP/2 to services: streams on shared connections, what is sent again, what is not, and how streams end.

use std::collections::HashSet;

use h2::{Reason, server};

use super::{
    super::{
        call::{Call, Stakes},
        framing::frame,
        shared::{Shared, Shares, Slot},
    },
    *,
};
use crate::config::UpstreamProtocol;

type Stream = (Request<h2::RecvStream>, server::SendResponse<Bytes>);

/// A service that speaks HTTP/2 with prior knowledge; the test says what it does with each connection, counted from 0.
async fn speaking<F, R>(settings: server::Builder, behave: F) -> SocketAddr
where
    F: Fn(server::Connection<TcpStream, Bytes>, usize) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let behave = Rc::new(behave);
    upstream(move |wire, nth| {
        let (behave, settings) = (Rc::clone(&behave), settings.clone());
        async move {
            let connection = settings.handshake(wire.0).await.unwrap();
            behave(connection, nth).await;
        }
    })
    .await
}

/// Serves streams until the connection ends.
async fn serve<R>(mut connection: server::Connection<TcpStream, Bytes>, each: impl Fn(Stream) -> R)
where
    R: Future<Output = ()> + 'static,
{
    while let Some(Ok(stream)) = connection.accept().await {
        spawn_local(each(stream));
    }
}

async fn echo((request, mut respond): Stream) {
    let (parts, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    let said = format!("{} {} {} {length}", parts.method, authority, parts.uri.path());
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(said.into(), true).unwrap();
}

fn h2c(address: SocketAddr) -> Arc<Service> {
    service(h2c_config(&[address]))
}

fn h2c_config(addresses: &[SocketAddr]) -> config::Upstream {
    let targets = addresses.iter().map(|at| target(false, &at.ip().to_string(), at.port())).collect();
    config::Upstream { protocol: UpstreamProtocol::Http2, ..config_of(targets) }
}

#[test]
fn an_upload_that_takes_longer_than_an_answer_may_costs_nothing_while_it_rests() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| serve(connection, echo)).await;
        let service = service(config::Upstream { response_timeout: BRIEF, ..h2c_config(&[address]) });
        let (feed, request) = fed(Method::POST, "/");
        let (client, mut polls) = (Client::new(), 0_u32);
        let mut exchange = std::pin::pin!(client.text_of(&service, request));
        let counting = std::future::poll_fn(|cx| {
            polls += 1;
            exchange.as_mut().poll(cx)
        });
        let feeding = async {
            for rest in [3 * BRIEF, BRIEF / 2, BRIEF / 2, BRIEF / 2, 3 * BRIEF, BRIEF / 3] {
                tokio::time::sleep(rest).await;
                feed.send(data("part")).unwrap();
            }
            drop(feed);
        };
        let (answer, ()) = tokio::join!(counting, feeding);
        assert_eq!(answer.unwrap(), "POST api.example / 24");
        assert!(polls < 200, "polled {polls} times for six parts");
    });
}

#[test]
fn requests_share_a_connection() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| serve(connection, echo)).await;
        let (client, service) = (Client::new(), h2c(address));
        let answers: Vec<_> = (0..50)
            .map(|_| {
                let (client, service) = (client.clone(), Arc::clone(&service));
                spawn_local(async move { client.text(&service).await.unwrap() })
            })
            .collect();
        for answer in answers {
            assert_eq!(answer.await.unwrap(), "GET api.example / 0");
        }
        assert_eq!(client.told.opened.get(), 1, "a burst makes one connection, and waits for it");
        let post = client.send(&service, with_body(Method::POST, "/up?x=%2F", "12345")).await.unwrap();
        assert_eq!(read(post).await.unwrap().0, "POST api.example /up 5");
    });
}

#[test]
fn further_connections_are_made_when_the_peer_allows_no_more_streams() {
    worker(async {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(2);
        let open = Rc::new(Cell::new(0));
        let seen = Rc::clone(&open);
        let address = speaking(settings, move |connection, _| {
            let seen = Rc::clone(&seen);
            serve(connection, move |stream| {
                let seen = Rc::clone(&seen);
                async move {
                    seen.set(seen.get() + 1);
                    while seen.get() < 6 {
                        tokio::task::yield_now().await;
                    }
                    echo(stream).await;
                }
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        // The settings are known with the first answer.
        open.set(6);
        client.text(&service).await.unwrap();
        client.text(&service).await.unwrap();
        open.set(0);
        let answers: Vec<_> = (0..6)
            .map(|_| {
                let (client, service) = (client.clone(), Arc::clone(&service));
                spawn_local(async move { client.text(&service).await.unwrap() })
            })
            .collect();
        for answer in answers {
            answer.await.unwrap();
        }
        assert_eq!(client.told.opened.get(), 3, "six at once, two a connection");
    });
}

#[test]
fn what_a_peer_refused_to_look_at_is_sent_again_with_its_body() {
    worker(async {
        let refusals = Rc::new(Cell::new(2));
        let address = speaking(server::Builder::new(), move |connection, _| {
            let refusals = Rc::clone(&refusals);
            serve(connection, move |(request, mut respond)| {
                let refusals = Rc::clone(&refusals);
                async move {
                    if refusals.get() > 0 {
                        refusals.set(refusals.get() - 1);
                        return respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    echo((request, respond)).await;
                }
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let post = client.send(&service, with_body(Method::POST, "/", "once")).await.unwrap();
        assert_eq!(read(post).await.unwrap().0, "POST api.example / 4");
        assert_eq!(client.told.retried.get(), 2);
    });
}

#[test]
fn a_post_whose_stream_was_reset_otherwise_is_never_sent_again() {
    worker(async {
        for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
            let seen = Rc::new(Cell::new(0));
            let count = Rc::clone(&seen);
            let address = speaking(server::Builder::new(), move |connection, _| {
                let count = Rc::clone(&count);
                serve(connection, move |(_, mut respond)| {
                    count.set(count.get() + 1);
                    respond.send_reset(reason);
                    async {}
                })
            })
            .await;
            let (client, service) = (Client::new(), h2c(address));
            let fault = client.fault(&service, with_body(Method::POST, "/", "once")).await;
            assert!(matches!(fault, UpstreamFault::Reset(_)), "{fault:?}");
            assert_eq!(seen.get(), 1, "{reason:?}");
        }
    });
}

#[test]
fn after_a_goaway_new_requests_go_elsewhere_and_old_ones_end_where_they_are() {
    worker(async {
        let address = speaking(server::Builder::new(), |mut connection, nth| async move {
            if nth > 0 {
                return serve(connection, echo).await;
            }
            let (request, respond) = connection.accept().await.unwrap().unwrap();
            // Says so while a stream is open; what is on its way behind it is not looked at.
            connection.graceful_shutdown();
            spawn_local(async move {
                settle().await;
                echo((request, respond)).await;
            });
            while connection.accept().await.is_some() {}
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let first = {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { client.text(&service).await })
        };
        settle().await;
        for _ in 0..3 {
            let post = client.send(&service, with_body(Method::POST, "/", "x")).await.unwrap();
            assert_eq!(read(post).await.unwrap().0, "POST api.example / 1");
        }
        assert_eq!(first.await.unwrap().unwrap(), "GET api.example / 0");
        assert!(client.told.faults.borrow().is_empty());
    });
}

#[test]
fn a_request_that_is_given_up_resets_its_stream_alone() {
    worker(async {
        let (ended, mut resets) = mpsc::unbounded_channel();
        let address = speaking(server::Builder::new(), move |connection, _| {
            let ended = ended.clone();
            serve(connection, move |(request, mut respond)| {
                let ended = ended.clone();
                async move {
                    if request.uri().path() == "/slow" {
                        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                        ended.send(reason.unwrap()).unwrap();
                    } else {
                        echo((request, respond)).await;
                    }
                }
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        client.text(&service).await.unwrap();
        let waiting = {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { drop(client.send(&service, request(Method::GET, "/slow")).await) })
        };
        settle().await;
        waiting.abort();
        assert_eq!(resets.recv().await, Some(Reason::CANCEL));
        client.text(&service).await.unwrap();
        assert_eq!(client.told.opened.get(), 1);
    });
}

#[test]
fn an_answer_that_is_cut_off_is_no_whole_answer() {
    worker(async {
        for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
            let address = speaking(server::Builder::new(), move |connection, _| {
                serve(connection, move |(_, mut respond)| async move {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data("half".into(), false).unwrap();
                    settle().await;
                    stream.send_reset(reason);
                })
            })
            .await;
            let (client, service) = (Client::new(), h2c(address));
            let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
            let fault = read(answer).await.unwrap_err();
            assert!(matches!(fault, UpstreamFault::Reset(_)), "{reason:?}: {fault:?}");
            assert_eq!(*client.told.faults.borrow(), [FaultKind::Reset]);
        }
    });
}

#[test]
fn trailers_go_both_ways() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| {
            serve(connection, |(mut request, mut respond)| async move {
                while let Some(data) = request.body_mut().data().await {
                    let _ = request.body_mut().flow_control().release_capacity(data.unwrap().len());
                }
                let told = request.body_mut().trailers().await.unwrap().unwrap();
                let te = request.headers().get("te").cloned().unwrap();
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_owner(te.as_bytes().to_vec()), false).unwrap();
                stream.send_trailers(told).unwrap();
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let (feed, mut request) = fed(Method::POST, "/");
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        feed.send(data("x")).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        feed.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        drop(feed);
        let (text, told) = read(client.send(&service, request).await.unwrap()).await.unwrap();
        assert_eq!((text.as_str(), told), ("trailers", Some(trailers)));
    });
}

#[test]
fn fields_that_belong_to_a_connection_stay_behind() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| {
            serve(connection, |(request, mut respond)| async move {
                let names: HashSet<&str> = request.headers().keys().map(http::HeaderName::as_str).collect();
                assert_eq!(names, HashSet::from(["content-length", "x-own"]));
                assert_eq!(request.headers().get("content-length").unwrap(), "1");
                respond.send_response(Response::new(()), true).unwrap();
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let mut post = with_body(Method::POST, "/", "x");
        for (name, value) in
            [("te", "gzip"), ("connection", "close"), ("keep-alive", "5"), ("upgrade", "h2c"), ("x-own", "1")]
        {
            post.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(client.send(&service, post).await.unwrap().status(), 200);
    });
}

#[test]
fn a_head_that_does_not_come_in_time_is_a_timeout() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| {
            serve(connection, |stream| async move {
                std::future::pending::<()>().await;
                drop(stream);
            })
        })
        .await;
        let service = service(config::Upstream { response_timeout: BRIEF, ..h2c_config(&[address]) });
        let client = Client::new();
        let fault = client.fault(&service, request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Timeout), "{fault:?}");
    });
}

#[test]
fn a_client_that_sends_slowly_is_no_fault_of_the_service() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| serve(connection, echo)).await;
        let service = service(config::Upstream { response_timeout: BRIEF, ..h2c_config(&[address]) });
        let client = Client::new();
        let (feed, request) = fed(Method::POST, "/");
        let answer = spawn_local(async move { client.text_of(&service, request).await });
        for _ in 0..3 {
            tokio::time::sleep(BRIEF).await;
            feed.send(data("x")).unwrap();
        }
        drop(feed);
        assert_eq!(answer.await.unwrap().unwrap(), "POST api.example / 3");
    });
}

#[test]
fn an_answer_may_come_before_the_request_is_whole_and_what_follows_is_still_sent() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| {
            serve(connection, |(mut request, mut respond)| async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                while let Some(Ok(data)) = request.body_mut().data().await {
                    let _ = request.body_mut().flow_control().release_capacity(data.len());
                    stream.send_data(data, false).unwrap();
                }
                stream.send_data(Bytes::new(), true).unwrap();
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let (feed, request) = fed(Method::POST, "/");
        let mut answer = client.send(&service, request).await.unwrap().into_body();
        for _ in 0..3 {
            feed.send(data("ping")).unwrap();
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "ping");
        }
        drop(feed);
        assert!(answer.frame().await.is_none_or(|frame| frame.unwrap().into_data().unwrap().is_empty()));
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_both_bodies_ends_the_stream() {
    worker(async {
        let (ended, mut faults) = mpsc::unbounded_channel();
        let address = speaking(server::Builder::new(), move |connection, _| {
            let ended = ended.clone();
            serve(connection, move |(mut request, mut respond)| {
                let ended = ended.clone();
                async move {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data("begun".into(), false).unwrap();
                    while let Some(data) = request.body_mut().data().await {
                        if let Err(error) = data {
                            assert_eq!(error.reason(), Some(Reason::CANCEL));
                            return ended.send(()).unwrap();
                        }
                    }
                }
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let (feed, upload) = fed(Method::POST, "/");
        feed.send(data("x")).unwrap();
        let answer = client.send(&service, upload).await.unwrap();
        // The body's end is waited for by now.
        settle().await;
        drop(answer);
        faults.recv().await.unwrap();
        assert!(feed.send(data("y")).is_err(), "the client's body is let go of");
        drop(client.send(&service, request(Method::GET, "/")).await.unwrap());
        assert_eq!(client.told.opened.get(), 1, "the others on the connection are left alone");
    });
}

#[test]
fn a_large_body_goes_both_ways_within_the_windows() {
    worker(async {
        let address = speaking(server::Builder::new(), |connection, _| {
            serve(connection, |(mut request, mut respond)| async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                while let Some(Ok(mut data)) = request.body_mut().data().await {
                    let _ = request.body_mut().flow_control().release_capacity(data.len());
                    while !data.is_empty() {
                        stream.reserve_capacity(data.len());
                        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                        stream.send_data(data.split_to(room.min(data.len())), false).unwrap();
                    }
                }
                stream.send_data(Bytes::new(), true).unwrap();
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let sent = "0123456789abcdef".repeat(256 * 1024);
        let answer = client.send(&service, with_body(Method::PUT, "/", sent.clone())).await.unwrap();
        assert!(read(answer).await.unwrap().0 == sent);
    });
}

#[test]
fn a_peer_that_speaks_no_http2_is_a_fault_and_no_answer() {
    worker(async {
        let address = upstream(|wire, _| wire.answer_all(OK)).await;
        let (client, service) = (Client::new(), h2c(address));
        let fault = client.fault(&service, request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Invalid(_) | UpstreamFault::Reset(_)), "{fault:?}");
    });
}

#[test]
fn those_who_wait_for_a_connection_that_fails_are_told_and_do_not_each_try() {
    worker(async {
        let (address, _nobody) = nobody();
        let (client, service) = (Client::new(), h2c(address));
        let faults: Vec<_> = (0..8)
            .map(|_| {
                let (client, service) = (client.clone(), Arc::clone(&service));
                spawn_local(async move { client.fault(&service, request(Method::GET, "/")).await })
            })
            .collect();
        for fault in faults {
            assert!(matches!(fault.await.unwrap(), UpstreamFault::Unreachable { .. }));
        }
        assert_eq!(client.told.ejected.borrow().len(), 0, "one attempt that failed ejects nobody");
    });
}

/// A socket that takes the head of one stream, and nothing after it.
struct Breaking {
    inner: tokio::io::DuplexStream,
    /// The stream.
    last: u32,
    /// What has been written and is not a whole frame yet.
    pending: Vec<u8>,
    /// What is left of the preface.
    preface: usize,
    /// Whether that head was taken.
    is_broken: Rc<Cell<bool>>,
}

impl Breaking {
    /// How many of these bytes are the last that are taken; `None` if there is no end in them.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        // The preface is no frame.
        let mut at = self.preface.min(self.pending.len());
        self.preface -= at;
        while let Some(head) = self.pending.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            if (head[3], stream) == (1, self.last) {
                return Some(at + 9 + length - before);
            }
            if self.pending.len() < at + 9 + length {
                break;
            }
            at += 9 + length;
        }
        self.pending.drain(..at);
        None
    }
}

impl tokio::io::AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.is_broken.get() {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let end = self.end(bytes);
        self.is_broken.set(end.is_some());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..end.unwrap_or(bytes.len())])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Its head arrives, and hyper says of it what it says of requests whose head was never sent.
#[test]
fn a_request_that_hyper_lets_go_of_without_a_word_is_sent_again_only_where_that_does_no_harm() {
    for (method, is_guarded, again) in [
        (Method::GET, false, true),
        (Method::GET, true, false),
        (Method::DELETE, false, false),
        (Method::DELETE, true, false),
        (Method::POST, false, false),
    ] {
        worker(async {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (told, mut streams) = mpsc::unbounded_channel();
            spawn_local(async move {
                // The third stream has to wait, and the first one's body for its window.
                let mut settings = server::Builder::new();
                settings.max_concurrent_streams(2);
                let mut connection: server::Connection<_, Bytes> = settings.handshake(theirs).await.unwrap();
                while let Some(Ok(stream)) = connection.accept().await {
                    told.send(stream).unwrap();
                }
            });
            let arrived = Rc::new(Cell::new(false));
            let ours =
                Breaking { inner: ours, last: 5, pending: Vec::new(), preface: 24, is_broken: Rc::clone(&arrived) };
            let shares = Shares::default();
            let first = shares.add(Shared::speak(ours, ahead::Ahead::narrow()).await.unwrap());
            settle().await;
            let second = shares.take(tokio::time::Instant::now()).unwrap();
            // As where the peer came to allow fewer after it was taken.
            let third = Slot { connection: Rc::clone(&first.connection), is_reused: true };
            let begin = |slot, request: Request<TestBody>, is_guarded| {
                let now = tokio::time::Instant::now();
                let mut request = request.map(|body| Upload::new(body, now));
                frame(&mut request);
                let stakes = Stakes::of(&request, is_guarded);
                let mut call = Call::begin(slot, request, http::uri::Scheme::HTTP, (now, stakes));
                spawn_local(async move { std::future::poll_fn(|cx| call.poll_answer(cx, AMPLE)).await })
            };
            let _upload = begin(first, with_body(Method::POST, "/upload", "x".repeat(1 << 18)), true);
            let (upload, _open) = streams.recv().await.unwrap();
            let _short = begin(second, request(Method::GET, "/short"), true);
            let (_, mut short) = streams.recv().await.unwrap();
            let call = begin(third, request(method.clone(), "/the-one"), is_guarded);
            settle().await;
            // Both at once: room for the third stream, and more to be sent than its head.
            let (mut upload, mut read) = (upload.into_body(), 0);
            while read < 65_535 {
                read += upload.data().await.unwrap().unwrap().len();
            }
            upload.flow_control().release_capacity(read).unwrap();
            short.send_response(Response::new(()), true).unwrap();
            let Err(lost) = call.await.unwrap() else { panic!("an answer") };
            assert!(matches!(lost.fault, UpstreamFault::Reset(_)), "{:?}", lost.fault);
            assert_eq!(lost.unsent.is_some(), again, "{method} {is_guarded}");
            assert!(arrived.get(), "its head is on its way");
        });
    }
}

/// A service's end of a connection, frame by frame (RFC 9113 §4.1): for what no library would say.
struct Frames {
    wire: TcpStream,
    /// How many streams were reset by the peer.
    resets: usize,
}

const MOST: u32 = 0x7fff_ffff;

impl Frames {
    /// Reads the preface, and allows so many streams.
    async fn begin(wire: Wire, streams: u8) -> Self {
        let mut frames = Self { wire: wire.0, resets: 0 };
        let mut preface = [0; 24];
        frames.wire.read_exact(&mut preface).await.unwrap();
        frames.say(&Self::frame(4, 0, 0, &[0, 3, 0, 0, 0, streams])).await;
        frames
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// 200 and no more.
    fn answer(stream: u32) -> Vec<u8> {
        Self::frame(1, 5, stream, &[0x88])
    }

    fn goaway(last: u32) -> Vec<u8> {
        Self::frame(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
    }

    async fn say(&mut self, bytes: &[u8]) {
        let _ = self.wire.write_all(bytes).await;
    }

    /// The stream of the next head; `None` at the end of the connection, and after more resets than common servers take. Settings and
    /// pings are seen to.
    async fn head(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.wire.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.wire.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4] & 1) {
                (1, _) => return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]])),
                (4, 0) => self.say(&Self::frame(4, 1, 0, &[])).await,
                (6, 0) => self.say(&Self::frame(6, 1, 0, &payload)).await,
                (3, _) => {
                    self.resets += 1;
                    if self.resets > 20 {
                        return None;
                    }
                }
                _ => {}
            }
        }
    }
}

/// A request under way on a connection that takes no other, and a POST that waits behind it. Then the service says GOAWAY, `last`
/// being the last stream that it looks at, and answers the first. Gives what became of the POST, and how often it arrived.
async fn waiting_behind_a_goaway(last: u32) -> (Result<(), UpstreamFault>, usize) {
    let (open, seen) = (Rc::new(tokio::sync::Semaphore::new(0)), Rc::new(Cell::new(0)));
    let (opened, heads) = (Rc::clone(&open), Rc::clone(&seen));
    let address = upstream(move |wire, nth| {
        let (open, seen) = (Rc::clone(&opened), Rc::clone(&heads));
        async move {
            let mut frames = Frames::begin(wire, 1).await;
            while let Some(stream) = frames.head().await {
                seen.set(seen.get() + 1);
                let mut said = Frames::answer(stream);
                if (nth, stream) == (0, 1) {
                    open.acquire().await.unwrap().forget();
                    said = [Frames::goaway(last), said].concat();
                }
                frames.say(&said).await;
            }
        }
    })
    .await;
    let (client, service) = (Client::new(), h2c(address));
    let send = |request| {
        let (client, service) = (client.clone(), Arc::clone(&service));
        spawn_local(async move { client.send(&service, request).await.map(drop) })
    };
    let first = send(request(Method::GET, "/"));
    while seen.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let post = send(request(Method::POST, "/once"));
    settle().await;
    assert_eq!((seen.get(), client.told.opened.get()), (1, 1), "it waits");
    open.add_permits(1);
    first.await.unwrap().unwrap();
    let answer = post.await.unwrap();
    // Whatever is on its way arrives.
    tokio::time::sleep(BRIEF).await;
    (answer, seen.get() - 1)
}

#[test]
fn what_may_be_opened_after_a_notice_of_closing_is_not_sent_again() {
    // RFC 9113 §6.8: a notice that names no stream; what comes may be looked at.
    let (answer, seen) = worker(waiting_behind_a_goaway(MOST));
    assert!(seen <= 1, "a POST arrived {seen} times: {answer:?}");
}

#[test]
fn what_waited_for_a_stream_behind_the_last_one_is_sent_elsewhere() {
    let (answer, seen) = worker(waiting_behind_a_goaway(1));
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(seen, 1);
}

/// A peer that takes many resets for an attack closes the connection, and it is not the one who gave up that loses by it.
#[test]
fn who_gives_up_again_and_again_breaks_nobody_elses_stream() {
    worker(async {
        let (open, seen) = (Rc::new(tokio::sync::Semaphore::new(0)), Rc::new(Cell::new(0)));
        let (opened, heads) = (Rc::clone(&open), Rc::clone(&seen));
        let address = upstream(move |wire, nth| {
            let (open, seen) = (Rc::clone(&opened), Rc::clone(&heads));
            async move {
                let mut frames = Frames::begin(wire, 100).await;
                loop {
                    tokio::select! {
                        head = frames.head() => match head {
                            Some(_) => seen.set(seen.get() + 1),
                            None => return,
                        },
                        permit = open.acquire(), if nth == 0 => {
                            permit.unwrap().forget();
                            frames.say(&Frames::answer(1)).await;
                        }
                    }
                }
            }
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        let send = || {
            let (client, service) = (client.clone(), Arc::clone(&service));
            spawn_local(async move { client.send(&service, request(Method::GET, "/")).await.map(drop) })
        };
        let other = send();
        for nth in 0..100 {
            while seen.get() <= nth {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let one = send();
            while seen.get() <= nth + 1 {
                assert!(!other.is_finished(), "{nth}: {:?}", client.told.faults.borrow());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            one.abort();
            settle().await;
        }
        open.add_permits(1);
        other.await.unwrap().unwrap();
        assert!(client.told.opened.get() < 10, "{}", client.told.opened.get());
    });
}

#[test]
fn an_answer_that_nobody_takes_ends_in_time_and_its_stream_with_it() {
    worker(async {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(1);
        let (tell, mut told) = mpsc::unbounded_channel();
        let address = speaking(settings, move |connection, _| {
            let tell = tell.clone();
            serve(connection, move |(request, mut respond)| {
                let tell = tell.clone();
                async move {
                    if request.uri().path() == "/short" {
                        respond.send_response(Response::new(()), true).unwrap();
                        return;
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    // More than is ever read ahead.
                    stream.send_data(vec![0; 32 << 20].into(), false).unwrap();
                    tell.send(std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap()).unwrap();
                }
            })
        })
        .await;
        let service = service(config::Upstream { request_timeout: Some(BRIEF * 6), ..h2c_config(&[address]) });
        let client = Client::new();
        // The settings are known with the first answer.
        client.text_of(&service, request(Method::GET, "/short")).await.unwrap();
        let mut body = client.send(&service, request(Method::GET, "/long")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(told.recv().await.unwrap(), Reason::CANCEL);
        // What was held by nobody who reads holds up nobody else.
        for _ in 0..3 {
            client.text_of(&service, request(Method::GET, "/short")).await.unwrap();
        }
        assert_eq!(client.told.opened.get(), 1);
        assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), FaultKind::Deadline);
        assert_eq!(*client.told.faults.borrow(), [FaultKind::Deadline]);
    });
}

#[test]
fn streams_that_last_on_many_connections_keep_nobody_waiting() {
    worker(async {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(1);
        let open = Rc::new(tokio::sync::Semaphore::new(2));
        let opened = Rc::clone(&open);
        let address = speaking(settings, move |connection, _| {
            let open = Rc::clone(&opened);
            serve(connection, move |stream| {
                let open = Rc::clone(&open);
                async move {
                    if stream.0.method() == Method::GET {
                        open.acquire().await.unwrap().forget();
                    }
                    echo(stream).await;
                }
            })
        })
        .await;
        let (client, service) = (Client::new(), h2c(address));
        // The settings are known with the first answer.
        client.text(&service).await.unwrap();
        client.text(&service).await.unwrap();
        let lasting: Vec<_> = (0..40)
            .map(|_| {
                let (client, service) = (client.clone(), Arc::clone(&service));
                spawn_local(async move { client.text(&service).await.unwrap() })
            })
            .collect();
        while client.told.opened.get() < 32 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let post = client.send(&service, with_body(Method::POST, "/", "x"));
        let answer = tokio::time::timeout(AMPLE, post).await.unwrap().unwrap();
        assert_eq!(read(answer).await.unwrap().0, "POST api.example / 1");
        open.add_permits(40);
        for one in lasting {
            one.await.unwrap();
        }
    });
}
