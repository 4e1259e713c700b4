//! A receiver of webhooks: hyper's server, which answers as it is told and keeps what it got.

use std::{
    convert::Infallible,
    io::Write as _,
    process::Stdio,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::{Certificates, eventually, mail_tool};

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mood {
    /// With this status.
    Status(u16),
    /// With a redirect to itself.
    Redirect,
    /// With a head without an end.
    Endless,
    /// With 200 and a body without an end.
    Flood,
    /// Not at all.
    Hang,
    /// With 200, once it is told to.
    Slow,
}

/// A call that it got.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Call {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// What the library of Standard Webhooks says of it.
    pub(super) fn verified(&self, secret: &str) -> String {
        let headers: serde_json::Map<String, Value> =
            self.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
        let mut child = mail_tool("verify.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let line = json!({"secret": secret, "headers": headers, "body": self.body}).to_string();
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    }
}

/// The receiver.
pub(super) struct Receiver {
    pub(super) port: u16,
    mood: Arc<Mutex<Mood>>,
    calls: Arc<Mutex<Vec<Call>>>,
    go: Arc<Notify>,
}

impl Receiver {
    pub(super) async fn start(mood: Mood, certificates: Option<&Certificates>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, calls, go) = (Arc::new(Mutex::new(mood)), Arc::default(), Arc::new(Notify::new()));
        let acceptor = certificates.map(|it| tokio_rustls::TlsAcceptor::from(Arc::new(it.server_config())));
        let state = (Arc::clone(&mood), Arc::clone(&calls), Arc::clone(&go));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, state).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, mood, calls, go }
    }

    pub(super) fn answer_with(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Answers one that waits.
    pub(super) fn answer_now(&self) {
        self.go.notify_one();
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(super) async fn gets(&self, count: usize) -> Vec<Call> {
        eventually("webhooks", || Some(self.calls()).filter(|calls| calls.len() >= count)).await
    }
}

type State = (Arc<Mutex<Mood>>, Arc<Mutex<Vec<Call>>>, Arc<Notify>);

async fn serve<S>(stream: S, (mood, calls, go): State)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (mood, calls, go) = (Arc::clone(&mood), Arc::clone(&calls), Arc::clone(&go));
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let mood = *mood.lock().unwrap();
            calls.lock().unwrap().push(Call { path: head.uri.path().to_owned(), headers: head.headers, body });
            let builder = Response::builder();
            let response = match mood {
                Mood::Status(status) => builder.status(status).body(Full::new(Bytes::from("fine"))),
                Mood::Redirect => builder.status(307).header("location", "/elsewhere").body(Full::default()),
                Mood::Endless => builder.header("x-long", "a".repeat(200_000)).body(Full::default()),
                Mood::Flood => builder.body(Full::new(Bytes::from(vec![b'a'; 64 << 20]))),
                Mood::Slow => {
                    go.notified().await;
                    builder.body(Full::default())
                }
                Mood::Hang => std::future::pending().await,
            };
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
