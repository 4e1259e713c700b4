//! Services that misbehave: each way has its own fault, and none hangs.

use super::*;

async fn saying(bytes: impl AsRef<[u8]> + Clone + 'static) -> SocketAddr {
    upstream(move |mut wire, _| {
        let bytes = bytes.clone();
        async move {
            wire.head().await;
            wire.say(bytes).await;
        }
    })
    .await
}

#[test]
fn a_refused_connection_is_unreachable() {
    worker(async {
        let client = Client::new();
        let (address, _socket) = nobody();
        let fault = client.fault(&service_of(&[address]), request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Unreachable { source: ConnectFault::Io(_), .. }), "{fault:?}");
        assert_eq!(*client.told.faults.borrow(), [FaultKind::Unreachable]);
    });
}

#[test]
fn a_name_without_an_address_is_unreachable() {
    worker(async {
        let service = service(config_of(vec![target(false, "nowhere.invalid", 80)]));
        let fault = Client::new().fault(&service, request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Unreachable { source: ConnectFault::Resolve(_), .. }), "{fault:?}");
    });
}

#[test]
fn a_handshake_that_never_ends_is_unreachable_in_time() {
    worker(async {
        let address = upstream(|mut wire, _| async move { wire.closed().await }).await;
        let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut config = config_of(vec![target(true, "localhost", address.port())]);
        config.connect_timeout = BRIEF;
        config.ca = Some(config::File { span: Span::default(), path: "ca.pem".into() });
        let mut files = Files::default();
        files.files.insert("ca.pem".into(), ca.cert.pem().into_bytes());
        let fault = Client::new().fault(&compile(config, &files).unwrap(), request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Unreachable { source: ConnectFault::Timeout, .. }), "{fault:?}");
    });
}

#[test]
fn a_service_that_accepts_and_closes_resets_and_is_not_tried_for_ever() {
    worker(async {
        let connections = Rc::new(Cell::new(0));
        let counter = Rc::clone(&connections);
        let address = upstream(move |wire, _| {
            counter.set(counter.get() + 1);
            async move { drop(wire) }
        })
        .await;
        let client = Client::new();
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let fault = client.fault(&service_of(&[address]), request(method, "/")).await;
            assert!(matches!(fault, UpstreamFault::Reset(_)), "{fault:?}");
        }
        assert!(connections.get() <= 9, "{} connections for three requests", connections.get());
    });
}

#[test]
fn a_service_that_reads_the_request_and_closes_gets_it_once() {
    worker(async {
        let seen = Rc::new(Cell::new(0));
        let counter = Rc::clone(&seen);
        let address = upstream(move |mut wire, _| {
            let seen = Rc::clone(&counter);
            async move {
                wire.head().await.unwrap();
                seen.set(seen.get() + 1);
            }
        })
        .await;
        let fault = Client::new().fault(&service_of(&[address]), request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Reset(_)), "{fault:?}");
        assert_eq!(seen.get(), 1);
    });
}

#[test]
fn a_silent_service_times_out_and_its_connection_is_closed() {
    worker(async {
        let (done, mut closed) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let done = done.clone();
            async move {
                wire.head().await.unwrap();
                wire.closed().await;
                done.send(()).unwrap();
            }
        })
        .await;
        let client = Client::new();
        let service = impatient(address);
        for method in [Method::GET, Method::DELETE] {
            let started = Instant::now();
            let fault = client.fault(&service, request(method, "/")).await;
            assert!(matches!(fault, UpstreamFault::Timeout), "{fault:?}");
            assert!(started.elapsed() >= BRIEF && started.elapsed() < AMPLE);
            closed.recv().await.unwrap();
        }
    });
}

#[test]
fn a_head_that_comes_too_slowly_times_out() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await.unwrap();
            for byte in "HTTP/1.1 200 OK\r\nx-slow: yes\r\nx-slower: yes\r\n".bytes() {
                wire.say([byte]).await;
                tokio::time::sleep(BRIEF / 10).await;
            }
            wire.closed().await;
        })
        .await;
        let fault = Client::new().fault(&impatient(address), request(Method::GET, "/")).await;
        assert!(matches!(fault, UpstreamFault::Timeout), "{fault:?}");
    });
}

#[test]
fn half_a_head_is_a_reset() {
    worker(async {
        for half in ["HTTP/1.1 200 OK\r\ncontent-le", "HTT"] {
            let fault = Client::new().fault(&service_of(&[saying(half).await]), request(Method::GET, "/")).await;
            assert!(matches!(fault, UpstreamFault::Reset(_)), "{half}: {fault:?}");
        }
    });
}

#[test]
fn what_is_not_http_is_invalid() {
    worker(async {
        let many_fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
        let long_field = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000));
        for nonsense in [
            "SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nspace before : colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: folded\r\n line\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            &many_fields,
            &long_field,
        ] {
            let address = saying(nonsense.to_owned()).await;
            let fault = Client::new().fault(&service_of(&[address]), request(Method::GET, "/")).await;
            assert!(matches!(fault, UpstreamFault::Invalid(_)), "{:.60}: {fault:?}", nonsense);
        }
    });
}

#[test]
fn a_body_that_breaks_off_ends_with_an_error_and_never_as_if_it_were_whole() {
    worker(async {
        for (answer, kind) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!", FaultKind::Reset),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n", FaultKind::Reset),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\nzz\r\n", FaultKind::Invalid),
        ] {
            let client = Client::new();
            let answer = client.send(&service_of(&[saying(answer).await]), request(Method::GET, "/")).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(read(answer).await.unwrap_err().kind(), kind);
            assert_eq!(*client.told.faults.borrow(), [kind]);
        }
    });
}

#[test]
fn more_bytes_than_the_answer_has_spoil_the_connection_and_not_the_next_answer() {
    worker(async {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        let service = service_of(&[saying(answer).await]);
        let client = Client::new();
        for _ in 0..3 {
            assert_eq!(client.text(&service).await.unwrap(), "ok");
            settle().await;
        }
        assert_eq!(client.told.opened.get(), 3);
    });
}

#[test]
fn time_that_the_client_takes_to_send_does_not_count() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.until("0\r\n\r\n").await.unwrap();
            wire.say(OK).await;
        })
        .await;
        let (feed, request) = fed(Method::POST, "/");
        spawn_local(async move {
            for _ in 0..4 {
                tokio::time::sleep(BRIEF).await;
                feed.send(data("slowly")).unwrap();
            }
        });
        let answer = Client::new().send(&impatient(address), request).await.unwrap();
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn a_service_that_takes_no_more_of_the_request_times_out() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let upload = with_body(Method::POST, "/", vec![b'x'; 64 << 20]);
        let fault = Client::new().fault(&impatient(address), upload).await;
        assert!(matches!(fault, UpstreamFault::Timeout), "{fault:?}");
    });
}

#[test]
fn a_service_that_is_silent_after_an_upload_times_out() {
    worker(async {
        let address = upstream(|mut wire, _| async move { wire.closed().await }).await;
        let fault = Client::new().fault(&impatient(address), with_body(Method::POST, "/", "all")).await;
        assert!(matches!(fault, UpstreamFault::Timeout), "{fault:?}");
    });
}

#[test]
fn a_client_that_breaks_off_its_upload_is_to_blame_itself() {
    worker(async {
        let (seen, mut ended) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move { seen.send(wire.until("0\r\n\r\n").await).unwrap() }
        })
        .await;
        let (feed, request) = fed(Method::POST, "/");
        feed.send(data("half")).unwrap();
        feed.send(Err(std::io::Error::other("gone"))).unwrap();
        let fault = Client::new().fault(&service_of(&[address]), request).await;
        let UpstreamFault::RequestBody(cause) = fault else { panic!("{fault:?}") };
        assert_eq!(cause.downcast_ref::<std::io::Error>().unwrap().to_string(), "gone");
        assert_eq!(ended.recv().await.unwrap(), None, "the upstream must not see a whole request");
    });
}

#[test]
fn a_client_that_goes_away_takes_its_upstream_request_with_it() {
    worker(async {
        let (seen, mut events) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, nth| {
            let seen = seen.clone();
            async move {
                wire.head().await.unwrap();
                seen.send("asked").unwrap();
                if nth == 1 {
                    wire.say("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nfirst bytes").await;
                }
                wire.closed().await;
                seen.send("closed").unwrap();
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let (waiting, at) = (client.clone(), Arc::clone(&service));
        let before_the_head = spawn_local(async move { waiting.text(&at).await });
        assert_eq!(events.recv().await, Some("asked"));
        before_the_head.abort();
        assert_eq!(events.recv().await, Some("closed"));

        let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(events.recv().await, Some("asked"));
        drop(answer);
        assert_eq!(events.recv().await, Some("closed"));
    });
}

#[test]
fn what_a_service_says_while_nobody_asks_is_never_the_next_answer() {
    worker(async {
        let (go, gone) = tokio::sync::watch::channel(());
        let address = upstream(move |mut wire, nth| {
            let mut gone = gone.clone();
            async move {
                wire.head().await;
                wire.say(OK).await;
                if nth == 0 {
                    gone.changed().await.unwrap();
                    wire.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
                }
                wire.answer_all(OK).await;
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        go.send(()).unwrap();
        tokio::time::sleep(BRIEF).await;
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (2, 0));
    });
}

#[test]
fn why_a_service_takes_no_more_is_passed_on_though_it_closes_on_us() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say("HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nmuch").await;
        })
        .await;
        for _ in 0..20 {
            let upload = with_body(Method::POST, "/", vec![b'x'; 8 << 20]);
            let answer = Client::new().send(&service_of(&[address]), upload).await.unwrap();
            assert_eq!(answer.status(), 413);
            assert_eq!(read(answer).await.unwrap().0, "much");
        }
    });
}

#[test]
fn a_client_that_breaks_off_while_the_answer_comes_ends_it_with_an_error() {
    worker(async {
        let (address, mut ended) = saying_and_waiting("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun").await;
        let (client, (feed, request)) = (Client::new(), fed(Method::POST, "/"));
        let mut answer = client.send(&service_of(&[address]), request).await.unwrap();
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        feed.send(Err(std::io::Error::other("gone"))).unwrap();
        let fault = answer.body_mut().frame().await.unwrap().unwrap_err();
        assert!(matches!(fault, UpstreamFault::RequestBody(_)), "{fault:?}");
        assert_eq!(*client.told.faults.borrow(), [FaultKind::RequestBody]);
        assert!(answer.body_mut().frame().await.unwrap().is_err(), "it is not whole, however often it is asked");
        assert!(!answer.body().is_end_stream());
        ended.recv().await.unwrap();
    });
}

#[test]
fn a_body_that_is_not_as_long_as_its_head_says_is_never_made_a_whole_request() {
    worker(async {
        for (sent, seen) in [(&["ab"][..], "ab"), (&["abcd"], ""), (&["ab", "cd"], "ab")] {
            let (told, mut bodies) = mpsc::unbounded_channel();
            let address = upstream(move |mut wire, _| {
                let told = told.clone();
                async move {
                    let mut body = String::new();
                    // What is too long at once is not even begun.
                    if let Some(head) = wire.head().await {
                        assert!(head.contains("content-length: 3\r\n"));
                    }
                    let _ = wire.0.read_to_string(&mut body).await;
                    told.send(body).unwrap();
                }
            })
            .await;
            let (feed, request) = fed(Method::POST, "/");
            let request = promised(request, 3);
            let sending = spawn_local(async move { Client::new().fault(&service_of(&[address]), request).await });
            for part in sent {
                feed.send(data(*part)).unwrap();
                settle().await;
            }
            drop(feed);
            let fault = sending.await.unwrap();
            assert!(matches!(fault, UpstreamFault::RequestBody(_)), "{sent:?}: {fault:?}");
            assert_eq!(bodies.recv().await.unwrap(), seen);
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_both_bodies_ends_the_connection() {
    worker(async {
        let (address, mut ended) = saying_and_waiting("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun").await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let (feed, request) = fed(Method::POST, "/");
        let mut answer = client.send(&service, request).await.unwrap();
        feed.send(data("part")).unwrap();
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        drop(answer);
        ended.recv().await.unwrap();
        settle().await;
        assert!(feed.send(data("more")).is_err(), "nobody takes the rest");
    });
}

#[test]
fn an_upload_that_breaks_off_behind_its_answer_spoils_the_connection() {
    worker(async {
        let (address, mut ended) = saying_and_waiting(OK).await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let (feed, request) = fed(Method::POST, "/");
        assert_eq!(read(client.send(&service, request).await.unwrap()).await.unwrap().0, "ok");
        feed.send(Err(std::io::Error::other("gone"))).unwrap();
        ended.recv().await.unwrap();
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!(client.told.opened.get(), 2);
    });
}

#[test]
fn what_a_service_said_is_heard_by_a_task_that_has_done_much_already() {
    worker(async {
        let address = upstream(|mut wire, nth| async move {
            wire.head().await;
            wire.say(OK).await;
            if nth == 0 {
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            }
            wire.answer_all(OK).await;
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let first = client.send(&service, request(Method::GET, "/")).await.unwrap();
        drop(first);
        tokio::time::sleep(BRIEF).await;
        // As it is for one task of many requests: sockets seem blocked to it until its next turn.
        let mut sending = None;
        std::future::poll_fn(|cx| {
            while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
            let sent = client.pools.send(&service, request(Method::GET, "/"), &Sending::plain(SystemClock.now()));
            sending = Some(sent);
            Poll::Ready(())
        })
        .await;
        assert_eq!(read(sending.unwrap().await.unwrap()).await.unwrap().0, "ok");
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (2, 0));
    });
}

#[test]
fn a_service_that_says_that_it_closes_is_believed_though_it_stays() {
    worker(async {
        for said in ["connection: close", "Connection: keep-alive, CLOSE", "connection: x\r\nconnection: close"] {
            for interim in ["", "HTTP/1.1 103 Early Hints\r\nconnection: close\r\n\r\n"] {
                let (seen, mut closed) = mpsc::unbounded_channel();
                let address = upstream(move |mut wire, _| {
                    let seen = seen.clone();
                    async move {
                        while wire.head().await.is_some() {
                            let said = if interim.is_empty() { said } else { "x: y" };
                            wire.say(format!("{interim}HTTP/1.1 200 OK\r\n{said}\r\ncontent-length: 2\r\n\r\nok"))
                                .await;
                        }
                        seen.send(()).unwrap();
                    }
                })
                .await;
                let (client, service) = (Client::new(), service_of(&[address]));
                for _ in 0..2 {
                    assert_eq!(client.text(&service).await.unwrap(), "ok");
                    closed.recv().await.unwrap();
                }
                assert_eq!(client.told.opened.get(), 2, "{said} {interim}");
            }
        }
    });
}

#[test]
fn a_service_that_only_says_that_it_is_at_it_is_given_up() {
    worker(async {
        for count in [100, 101] {
            let address = upstream(move |mut wire, _| async move {
                wire.head().await;
                wire.say("HTTP/1.1 102 Processing\r\n\r\n".repeat(count)).await;
                wire.say(OK).await;
            })
            .await;
            let answered = Client::new().text(&service_of(&[address])).await;
            assert_eq!(answered.is_ok(), count == 100);
            assert!(answered.is_ok_and(|text| text == "ok") || count == 101);
        }
    });
}

#[test]
fn a_service_that_closes_behind_an_early_answer_ends_the_upload() {
    worker(async {
        for (length, ending) in [(4, ""), (4, "more"), (6, "")] {
            let address = upstream(move |mut wire, _| async move {
                wire.head().await;
                let answer = format!("HTTP/1.1 413 Too Large\r\ncontent-length: {length}\r\n\r\nmuchly");
                wire.say(answer.get(..answer.len() - 6 + length).unwrap()).await;
                settle().await;
                wire.say(ending).await;
                if !ending.is_empty() {
                    wire.closed().await;
                }
            })
            .await;
            let (feed, request) = fed(Method::POST, "/");
            let answer = Client::new().send(&service_of(&[address]), request).await.unwrap();
            assert_eq!(read(answer).await.unwrap().0.len(), length);
            // Without a word of the client, which waits, too.
            feed.closed().await;
        }
    });
}

#[test]
fn a_service_that_answers_early_and_reads_no_more_does_not_keep_the_upload_for_ever() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say(OK).await;
            std::future::pending::<()>().await;
        })
        .await;
        let (feed, request) = fed(Method::POST, "/");
        let answer = Client::new().send(&impatient(address), request).await.unwrap();
        assert_eq!(read(answer).await.unwrap().0, "ok");
        for _ in 0..1024 {
            if feed.send(data(vec![b'x'; 65_536])).is_err() {
                break;
            }
        }
        feed.closed().await;
    });
}

#[test]
fn a_length_that_is_reached_is_the_end_though_the_client_has_not_said_so() {
    worker(async {
        let (client, service) =
            (Client::new(), service_of(&[upstream(|wire, _| wire.answer_all_with("abc", OK)).await]));
        for _ in 0..3 {
            let (feed, request) = fed(Method::POST, "/");
            feed.send(data("abc")).unwrap();
            let answer = client.send(&service, promised(request, 3)).await.unwrap();
            assert_eq!(read(answer).await.unwrap().0, "ok");
            assert!(feed.is_closed());
        }
        assert_eq!(client.told.opened.get(), 1);
    });
}

#[test]
fn a_body_of_no_bytes_whose_end_is_still_to_come_is_nothing_on_the_wire() {
    worker(async {
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::POST] {
            let (seen, mut heads) = mpsc::unbounded_channel();
            let address = upstream(move |mut wire, _| {
                let seen = seen.clone();
                async move {
                    while let Some(head) = wire.head().await {
                        seen.send(head).unwrap();
                        wire.say("HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                }
            })
            .await;
            let (client, service) = (Client::new(), service_of(&[address]));
            for _ in 0..2 {
                let (feed, mut request) = fed(method.clone(), "/");
                request.headers_mut().insert("trailer", "x-smuggled".parse().unwrap());
                read(client.send(&service, promised(request, 0)).await.unwrap()).await.unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-smuggled", "GET / HTTP/1.1".parse().unwrap());
                let _ = feed.send(Ok(Frame::trailers(trailers)));
                drop(feed);
                settle().await;
            }
            client.text(&service).await.unwrap();
            for _ in 0..2 {
                assert!(heads.recv().await.unwrap().starts_with(&format!("{method} / HTTP/1.1\r\n")));
            }
            assert!(heads.recv().await.unwrap().starts_with("GET / HTTP/1.1\r\n"));
            assert_eq!(client.told.opened.get(), 1);
        }
    });
}

#[test]
fn a_service_that_pauses_within_both_bodies_gets_the_whole_request() {
    worker(async {
        let (seen, mut lengths) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                wire.head().await;
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbe").await;
                tokio::time::sleep(BRIEF * 5).await;
                let mut body = vec![0; 24 << 20];
                seen.send(wire.0.read_exact(&mut body).await.is_ok()).unwrap();
                wire.say("en").await;
            }
        })
        .await;
        let upload = with_body(Method::POST, "/", vec![b'x'; 24 << 20]);
        let answer = Client::new().send(&impatient(address), upload).await.unwrap();
        assert_eq!(read(answer).await.unwrap().0, "been");
        assert!(lengths.recv().await.unwrap());
    });
}
