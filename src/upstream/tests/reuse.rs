//! Connections that are kept, that grow old, and that the other side closes at the worst moment.

use super::*;
use crate::upstream::pool::idle_connections;

/// Answers the first request of each connection; reads a second one and closes without an answer.
async fn closing_on_the_second() -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let heads = Rc::clone(&seen);
    let address = upstream(move |mut wire, _| {
        let heads = Rc::clone(&heads);
        async move {
            let first = wire.head().await.unwrap();
            heads.borrow_mut().push(first);
            wire.say(long()).await;
            if let Some(head) = wire.head().await {
                heads.borrow_mut().push(head);
            }
        }
    })
    .await;
    (address, seen)
}

#[test]
fn a_connection_that_closed_while_idle_is_not_used_by_any_method() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            wire.head().await;
            wire.say(OK).await;
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        for method in [Method::GET, Method::POST, Method::DELETE, Method::DELETE] {
            let answer = client.send(&service, request(method, "/")).await.unwrap();
            assert_eq!(read(answer).await.unwrap().0, "ok");
        }
        assert_eq!(*client.told.faults.borrow(), []);
    });
}

#[test]
fn a_safe_request_that_a_kept_connection_swallows_is_sent_again() {
    worker(async {
        let (address, seen) = closing_on_the_second().await;
        let (client, service) = (Client::new(), service_of(&[address]));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            client.text(&service).await.unwrap();
            let mut again = request(method, "/again");
            again.headers_mut().insert("x-kept", "yes".parse().unwrap());
            client.send(&service, again).await.unwrap();
            let head = seen.borrow().last().unwrap().clone();
            assert!(head.contains("x-kept: yes"), "{head}");
        }
        assert_eq!(client.told.retried.get(), 3);
    });
}

#[test]
fn where_one_kept_connection_is_dead_the_others_are_not_asked() {
    worker(async {
        let (address, seen) = closing_on_the_second().await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let both = [request(Method::GET, "/1"), request(Method::GET, "/2")];
        let mut answers = Vec::new();
        for request in both {
            answers.push(client.send(&service, request).await.unwrap());
        }
        for answer in answers {
            read(answer).await.unwrap();
        }
        client.text(&service).await.unwrap();
        assert_eq!(seen.borrow().len(), 4, "two answered, one swallowed, one answered on a fresh connection");
    });
}

#[test]
fn a_request_that_changes_things_is_never_sent_twice() {
    worker(async {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let (address, seen) = closing_on_the_second().await;
            let (client, service) = (Client::new(), service_of(&[address]));
            client.text(&service).await.unwrap();
            let fault = client.fault(&service, request(method, "/")).await;
            assert!(matches!(fault, UpstreamFault::Reset(_)), "{fault:?}");
            assert_eq!(seen.borrow().len(), 2);
        }
    });
}

#[test]
fn a_safe_request_with_a_body_is_never_sent_twice() {
    worker(async {
        let (address, seen) = closing_on_the_second().await;
        let (client, service) = (Client::new(), service_of(&[address]));
        client.text(&service).await.unwrap();
        let fault = client.fault(&service, with_body(Method::GET, "/", "query")).await;
        assert!(matches!(fault, UpstreamFault::Reset(_)), "{fault:?}");
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn an_unread_answer_keeps_its_connection_to_itself() {
    worker(async {
        let service = service_of(&[upstream(|wire, _| async { wire.answer_all(&long()).await }).await]);
        let client = Client::new();
        let first = client.send(&service, request(Method::GET, "/")).await.unwrap();
        let second = client.send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(client.told.opened.get(), 2);
        assert_eq!(read(first).await.unwrap().0.len(), 20_000);
        assert_eq!(read(second).await.unwrap().0.len(), 20_000);
        client.text(&service).await.unwrap();
        assert_eq!(client.told.opened.get(), 2);
    });
}

#[test]
fn an_answer_that_came_whole_leaves_its_connection_to_others_though_nobody_reads_it() {
    worker(async {
        let service = service_of(&[upstream(|wire, _| wire.answer_all(OK)).await]);
        let client = Client::new();
        let first = client.send(&service, request(Method::GET, "/")).await.unwrap();
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (1, 1));
        assert_eq!(read(first).await.unwrap().0, "ok");
    });
}

#[test]
fn a_connection_that_was_idle_for_long_is_closed_and_not_used() {
    worker(async {
        let service = service_of(&[upstream(|wire, _| wire.answer_all(OK)).await]);
        let client = Client::new();
        client.text(&service).await.unwrap();
        let later = now_plus(Duration::from_secs(31));
        let answer = client.send_at(&service, request(Method::GET, "/"), later).await.unwrap();
        read(answer).await.unwrap();
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (2, 0));
    });
}

#[test]
fn sweeping_closes_old_connections_and_forgets_services_that_are_gone() {
    worker(async {
        let (done, mut closed) = mpsc::unbounded_channel();
        let address = upstream(move |wire, _| {
            let done = done.clone();
            async move {
                wire.answer_all(OK).await;
                done.send(()).unwrap();
            }
        })
        .await;
        let client = Client::new();
        let service = service_of(&[address]);
        client.text(&service).await.unwrap();
        client.pools.sweep(SystemClock.now());
        client.text(&service).await.unwrap();
        assert_eq!(client.told.opened.get(), 1, "a young connection stays");
        client.pools.sweep(now_plus(Duration::from_secs(31)));
        closed.recv().await.unwrap();

        client.text(&service).await.unwrap();
        drop(service);
        client.pools.sweep(SystemClock.now());
        closed.recv().await.unwrap();
    });
}

#[test]
fn an_answer_is_read_to_its_end_though_its_service_is_gone_from_the_configuration() {
    worker(async {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let gone = RefCell::new(Some(gone));
        let address = upstream(move |mut wire, _| {
            let gone = gone.borrow_mut().take().unwrap();
            async move {
                wire.head().await;
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun ").await;
                gone.await.unwrap();
                wire.say("end").await;
            }
        })
        .await;
        let client = Client::new();
        let service = service_of(&[address]);
        let answer = client.send(&service, request(Method::GET, "/")).await.unwrap();
        drop(service);
        client.pools.sweep(now_plus(Duration::from_secs(3600)));
        go.send(()).unwrap();
        assert_eq!(read(answer).await.unwrap().0, "begun end");
    });
}

#[test]
fn a_reload_that_changes_nothing_keeps_the_connections() {
    worker(async {
        let address = upstream(|wire, _| wire.answer_all(OK)).await;
        let config = Arc::new(config_of(vec![target(false, "127.0.0.1", address.port())]));
        let client = Client::new();
        let files = Files::default();
        let mut upstreams = Upstreams::compile(&[Arc::clone(&config)], &files, None).unwrap();
        for _ in 0..4 {
            client.text(&upstreams.get("api").unwrap()).await.unwrap();
            upstreams = Upstreams::compile(&[Arc::clone(&config)], &files, Some(&upstreams)).unwrap();
            client.pools.sweep(SystemClock.now());
        }
        assert_eq!(client.told.opened.get(), 1);
    });
}

#[test]
fn no_more_connections_are_kept_than_a_burst_needs() {
    // Both sides of each are in this process, and are an eighth of the files that it may open.
    let bound = idle_connections();
    worker(async {
        let open = Rc::new(Cell::new(0_usize));
        let counter = Rc::clone(&open);
        let address = upstream(move |wire, _| {
            let open = Rc::clone(&counter);
            async move {
                open.set(open.get() + 1);
                wire.answer_all(&long()).await;
                open.set(open.get() - 1);
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        let mut answers = Vec::new();
        for _ in 0..bound + 4 {
            answers.push(client.send(&service, request(Method::GET, "/")).await.unwrap());
        }
        assert_eq!(open.get(), bound + 4);
        for answer in answers {
            read(answer).await.unwrap();
        }
        while open.get() > bound {
            tokio::task::yield_now().await;
        }
        client.text(&service).await.unwrap();
        assert_eq!(open.get(), bound);
        assert_eq!(usize::try_from(client.told.opened.get()).unwrap(), bound + 4);
    });
}

#[test]
fn a_request_that_is_sent_again_after_an_interim_answer_is_the_same() {
    worker(async {
        let (seen, mut heads) = mpsc::unbounded_channel();
        let address = upstream(move |mut wire, nth| {
            let seen = seen.clone();
            async move {
                wire.head().await.unwrap();
                wire.say(OK).await;
                if let Some(head) = wire.head().await {
                    seen.send(head).unwrap();
                    wire.say("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").await;
                }
                assert!(nth < 2);
            }
        })
        .await;
        let (client, service) = (Client::new(), service_of(&[address]));
        client.text(&service).await.unwrap();
        let mut again = request(Method::GET, "/again");
        again.headers_mut().insert("x-kept", "yes".parse().unwrap());
        let sent = "GET /again HTTP/1.1\r\nhost: api.example\r\nx-kept: yes\r\n\r\n";
        assert_eq!(client.text_of(&service, again).await.unwrap(), "ok");
        assert_eq!(heads.recv().await.unwrap(), sent);
        assert_eq!(client.told.retried.get(), 1);
    });
}
