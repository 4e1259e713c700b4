//! What goes over the wire when all is well.

use super::*;

#[test]
fn a_connection_serves_one_request_after_another() {
    worker(async {
        let client = Client::new();
        let service = service_of(&[upstream(|wire, _| wire.answer_all(OK)).await]);
        for _ in 0..5 {
            assert_eq!(client.text(&service).await.unwrap(), "ok");
        }
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (1, 4));
    });
}

#[test]
fn the_head_arrives_as_it_was_given() {
    worker(async {
        let (seen, mut heads) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                seen.send(wire.head().await.unwrap()).unwrap();
                wire.say(OK).await;
            }
        })
        .await;
        let client = Client::new();
        let mut request = request(Method::GET, "/a%2Fb//c?q=%00&x");
        *request.version_mut() = http::Version::HTTP_2;
        client.send(&service_of(&[address]), request).await.unwrap();
        assert_eq!(heads.recv().await.unwrap(), "GET /a%2Fb//c?q=%00&x HTTP/1.1\r\nhost: api.example\r\n\r\n");
    });
}

#[test]
fn the_target_is_told_its_own_name_where_the_upstream_wants_that() {
    worker(async {
        let (seen, mut heads) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                seen.send(wire.head().await.unwrap()).unwrap();
                wire.say(OK).await;
            }
        })
        .await;
        let mut config = config_of(vec![target(false, "localhost", address.port())]);
        config.host = UpstreamHost::Target;
        Client::new().text(&service(config)).await.unwrap();
        let head = heads.recv().await.unwrap();
        assert!(head.contains(&format!("host: localhost:{}\r\n", address.port())), "{head}");
    });
}

#[test]
fn a_chunked_answer_arrives_with_its_trailers() {
    worker(async {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                      3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n";
        let service = service_of(&[upstream(move |wire, _| wire.answer_all(answer)).await]);
        let client = Client::new();
        for _ in 0..3 {
            let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
            let (text, trailers) = read(answer).await.unwrap();
            assert_eq!(text, "abcdefg");
            assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "7");
        }
        assert_eq!(client.told.opened.get(), 1);
    });
}

#[test]
fn an_upload_of_unknown_length_is_streamed_chunk_by_chunk_with_its_trailers() {
    worker(async {
        let (seen, mut parts) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                for mark in ["\r\n\r\n", "one\r\n", "two\r\n", "\r\n\r\n"] {
                    seen.send(wire.until(mark).await.unwrap()).unwrap();
                }
                wire.say(OK).await;
            }
        })
        .await;
        let (feed, mut request) = fed(Method::GET, "/");
        request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        let client = Client::new();
        let service = service_of(&[address]);
        let sending = spawn_local(async move { client.send(&service, request).await.unwrap().status() });
        assert!(parts.recv().await.unwrap().contains("transfer-encoding: chunked\r\n"));
        feed.send(data("one")).unwrap();
        assert_eq!(parts.recv().await.unwrap(), "3\r\none\r\n");
        feed.send(data("two")).unwrap();
        assert_eq!(parts.recv().await.unwrap(), "3\r\ntwo\r\n");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "6".parse().unwrap());
        feed.send(Ok(Frame::trailers(trailers))).unwrap();
        drop(feed);
        assert_eq!(parts.recv().await.unwrap(), "0\r\nx-sum: 6\r\n\r\n");
        assert_eq!(sending.await.unwrap(), 200);
    });
}

#[test]
fn an_http_1_0_answer_without_a_length_ends_with_its_connection() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say("HTTP/1.0 200 OK\r\n\r\nall of it").await;
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        for _ in 0..2 {
            assert_eq!(client.text(&service).await.unwrap(), "all of it");
        }
        assert_eq!(client.told.opened.get(), 2);
    });
}

#[test]
fn an_upload_of_unknown_length_is_not_lost_on_a_service_that_speaks_http_1_0() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            while let Some(head) = wire.head().await {
                if head.starts_with("POST") {
                    assert_eq!(wire.until("0\r\n\r\n").await.unwrap(), "3\r\nall\r\n0\r\n\r\n");
                }
                wire.say("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok").await;
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        let (feed, request) = fed(Method::POST, "/");
        feed.send(data("all")).unwrap();
        drop(feed);
        assert_eq!(read(client.send(&service, request).await.unwrap()).await.unwrap().0, "ok");
    });
}

#[test]
fn answers_that_have_no_body_leave_the_connection_ready() {
    worker(async {
        for (method, answer) in [
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n"),
            (Method::POST, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ] {
            let service = service_of(&[upstream(move |wire, _| wire.answer_all(answer)).await]);
            let client = Client::new();
            for _ in 0..3 {
                let answer = client.send(&service, request(method.clone(), "/")).await.unwrap();
                assert!(answer.body().is_end_stream()); // so that nobody needs to read it
            }
            assert_eq!(client.told.opened.get(), 1, "{method} {answer}");
        }
    });
}

#[test]
fn the_last_byte_of_a_known_length_ends_an_answer() {
    worker(async {
        let service = service_of(&[upstream(|wire, _| wire.answer_all(OK)).await]);
        let client = Client::new();
        for _ in 0..3 {
            let mut answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
            assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
            assert!(answer.body().is_end_stream());
        }
        assert_eq!(client.told.opened.get(), 1);
    });
}

#[test]
fn interim_answers_are_passed_over() {
    worker(async {
        let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
                      HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let service = service_of(&[upstream(move |wire, _| wire.answer_all(answer)).await]);
        let answer = Client::new().send(&service, request(Method::POST, "/")).await.unwrap();
        assert!(!answer.headers().contains_key("link"));
        assert_eq!(read(answer).await.unwrap().0, "ok");
    });
}

#[test]
fn an_answer_that_comes_before_the_request_is_whole_is_passed_on() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say("HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmuch").await;
            wire.closed().await;
        })
        .await;
        let (feed, request) = fed(Method::POST, "/");
        feed.send(data("the first of many")).unwrap();
        let answer = Client::new().send(&service_of(&[address]), request).await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(read(answer).await.unwrap().0, "much");
        drop(feed);
    });
}

#[test]
fn a_long_answer_is_read_no_faster_than_the_client_takes_it() {
    worker(async {
        let sent = Rc::new(Cell::new(0_usize));
        let counter = Rc::clone(&sent);
        let address = upstream(move |mut wire, _| {
            let sent = Rc::clone(&counter);
            async move {
                wire.head().await;
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n").await;
                let chunk = vec![b'x'; 65_536];
                while sent.get() < 67_108_864 && wire.0.write_all(&chunk).await.is_ok() {
                    sent.set(sent.get() + chunk.len());
                }
            }
        })
        .await;
        let answer = Client::new().send(&service_of(&[address]), request(Method::GET, "/")).await.unwrap();
        let mut last = usize::MAX;
        while last != sent.get() {
            last = sent.get();
            tokio::time::sleep(BRIEF).await;
        }
        assert!(last < 32 << 20, "{last} bytes were taken off the upstream's hands without a reader");
        let mut body = answer.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(read, 67_108_864);
    });
}

#[test]
fn a_service_that_answers_early_and_reads_on_gets_the_whole_request_and_no_other_on_that_connection() {
    worker(async {
        let (seen, mut bodies) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                while let Some(head) = wire.head().await {
                    wire.say(OK).await;
                    if head.starts_with("POST") {
                        seen.send(wire.until("0\r\n\r\n").await.unwrap()).unwrap();
                    }
                }
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let (feed, request) = fed(Method::POST, "/");
        let answer = client.send(&service, request).await.unwrap();
        assert_eq!(read(answer).await.unwrap().0, "ok");
        feed.send(data("late")).unwrap();
        drop(feed);
        assert_eq!(bodies.recv().await.unwrap(), "4\r\nlate\r\n0\r\n\r\n");
        settle().await;
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!(client.told.opened.get(), 2);
        // Nor where the request was over first.
        let (feed, request) = fed(Method::POST, "/");
        let answer = client.send(&service, request).await.unwrap();
        drop(feed);
        assert_eq!(bodies.recv().await.unwrap(), "0\r\n\r\n");
        assert_eq!(read(answer).await.unwrap().0, "ok");
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!(client.told.opened.get(), 3);
    });
}

#[test]
fn a_line_end_too_many_behind_an_early_answer_ends_nothing_and_anything_else_does() {
    worker(async {
        for (together, later, is_whole) in
            [("\r\n", "", true), ("\n", "\r\n", true), ("", "\r\n\r", true), ("x", "", false), ("\r\n", "HTTP", false)]
        {
            let (seen, mut bodies) = mpsc::unbounded_channel();
            let address = upstream(move |mut wire, _| {
                let seen = seen.clone();
                async move {
                    wire.head().await;
                    wire.say(format!("{OK}{together}")).await;
                    tokio::time::sleep(BRIEF).await;
                    wire.say(later).await;
                    seen.send(wire.until("0\r\n\r\n").await.is_some()).unwrap();
                }
            })
            .await;
            let (feed, request) = fed(Method::POST, "/");
            assert_eq!(Client::new().text_of(&service_of(&[address]), request).await.unwrap(), "ok");
            tokio::time::sleep(BRIEF * 5).await;
            let _ = feed.send(data("late"));
            drop(feed);
            assert_eq!(bodies.recv().await.unwrap(), is_whole, "{together:?} {later:?}");
        }
    });
}

#[test]
fn a_request_goes_on_while_its_answer_is_read() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for word in ["one", "two"] {
                wire.until(&format!("3\r\n{word}\r\n")).await.unwrap();
                wire.say(format!("3\r\n{word}\r\n")).await;
            }
            wire.until("0\r\n\r\n").await.unwrap();
            wire.say("0\r\n\r\n").await;
        })
        .await;
        let (feed, request) = fed(Method::POST, "/");
        let mut echo = Client::new().send(&service_of(&[address]), request).await.unwrap().into_body();
        for word in ["one", "two"] {
            feed.send(data(word)).unwrap();
            assert_eq!(echo.frame().await.unwrap().unwrap().into_data().unwrap(), word);
        }
        drop(feed);
        assert!(echo.frame().await.is_none());
    });
}

#[test]
fn an_upload_that_takes_longer_than_an_answer_may_costs_nothing_while_it_rests() {
    worker(async {
        for (early, late) in [("", OK), (OK, ""), ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", "k")] {
            let address = upstream(move |mut wire, _| async move {
                wire.head().await;
                wire.say(early).await;
                wire.until("0\r\n\r\n").await;
                wire.say(late).await;
                wire.closed().await;
            })
            .await;
            let (feed, request) = fed(Method::POST, "/");
            let (asked, request) = counted(request);
            let client = Client::new();
            let exchange = async { read(client.send(&impatient(address), request).await.unwrap()).await.unwrap().0 };
            let feeding = async {
                // Of some parts the timer learns as soon as they come, of others when it fires.
                for rest in [3 * BRIEF, BRIEF / 2, BRIEF / 2, BRIEF / 2, 3 * BRIEF, BRIEF / 3] {
                    tokio::time::sleep(rest).await;
                    feed.send(data("part")).unwrap();
                }
                tokio::time::sleep(BRIEF).await;
                drop(feed);
            };
            let (answer, ()) = tokio::join!(exchange, feeding);
            assert_eq!(answer, "ok");
            settle().await;
            assert!(asked.get() < 200, "asked {} times for six parts, after {early:?}", asked.get());
        }
    });
}

#[test]
fn a_long_answer_in_chunks_or_without_a_length_arrives_byte_by_byte() {
    worker(async {
        let body: String = (0..400_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
        let chunks: String = body
            .as_bytes()
            .chunks(7001)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), str::from_utf8(c).unwrap()))
            .collect();
        for answer in [
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            format!("HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n{body}"),
        ] {
            let address = upstream(move |mut wire, _| {
                let answer = answer.clone();
                async move {
                    wire.head().await;
                    wire.say(answer).await;
                }
            })
            .await;
            let answer = Client::new().send(&service_of(&[address]), request(Method::GET, "/")).await.unwrap();
            assert!(read(answer).await.unwrap().0 == body);
        }
    });
}

#[test]
fn a_long_upload_arrives_byte_by_byte() {
    worker(async {
        let body: Bytes = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        let (seen, mut bodies) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, _| {
            let seen = seen.clone();
            async move {
                assert!(wire.head().await.unwrap().contains("content-length: 3000000\r\n"));
                let mut body = vec![0; 3_000_000];
                wire.0.read_exact(&mut body).await.unwrap();
                seen.send(body).unwrap();
                wire.say(OK).await;
            }
        })
        .await;
        let upload = with_body(Method::PUT, "/", body.clone());
        assert_eq!(Client::new().send(&service_of(&[address]), upload).await.unwrap().status(), 200);
        assert!(bodies.recv().await.unwrap() == body);
    });
}

#[test]
fn a_request_waits_in_little_memory() {
    // Its future is a part of the one that hyper's server moves about for each request.
    worker(async {
        let (client, service) = (Client::new(), service_of(&[nobody().0]));
        let sending = client.pools.send(&service, request(Method::GET, "/"), &Sending::plain(SystemClock.now()));
        assert!(size_of_val(&sending) <= 512, "{} bytes", size_of_val(&sending));
    });
}
