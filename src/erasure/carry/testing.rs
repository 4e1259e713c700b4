//! Services for tests: real ones, that keep what reaches them and answer as a test says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::upstreams::Upstreams;
use crate::config::{self, Call, Materials, Source, Span, UpstreamCredential, UpstreamHost};

/// A request that reached a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Service {
    /// Answers each request as the function says: with nothing but the end of the connection for an empty text.
    pub(crate) fn start(answer: impl Fn(&Got) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let service = Self { port: listener.local_addr().unwrap().port(), got: Arc::default() };
        let (got, answer) = (service.got.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (got, answer) = (got.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &got, &*answer));
            }
        });
        service
    }

    /// Everything that reached it.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Its upstream.
    pub(crate) fn upstream(&self, name: &str) -> config::Upstream {
        upstream(name, &[self.port])
    }
}

fn serve(stream: &TcpStream, got: &Mutex<Vec<Got>>, answer: &(impl Fn(&Got) -> String + ?Sized)) {
    let (mut reader, mut request) = (BufReader::new(stream), Got::default());
    if reader.read_line(&mut request.line).unwrap_or(0) == 0 {
        return;
    }
    request.line = request.line.trim_end().to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = request.fields.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    got.lock().unwrap().push(request.clone());
    let _ = (&*stream).write_all(answer(&request).as_bytes());
}

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An upstream at these ports of this machine.
pub(crate) fn upstream(name: &str, ports: &[u16]) -> config::Upstream {
    config::Upstream {
        span: Span::default(),
        name: name.into(),
        targets: ports
            .iter()
            .map(|port| config::Target { tls: false, host: "127.0.0.1".into(), port: *port })
            .collect(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        identity_headers: false,
        forward_authorization: false,
        credential: None,
        assertion: None,
        method_override: Vec::new(),
        form_bytes: 0,
        host: UpstreamHost::Target,
        ca: None,
    }
}

/// The upstreams of a configuration with nothing else.
pub(crate) fn upstreams(upstreams: Vec<config::Upstream>) -> Upstreams {
    Upstreams::of(&upstreams.into_iter().map(Arc::new).collect::<Vec<_>>(), &Nothing, &roots()).unwrap()
}

/// No roots.
pub(crate) fn roots() -> Arc<rustls::RootCertStore> {
    Arc::new(rustls::RootCertStore::empty())
}

/// A header as a credential.
pub(crate) fn credential(name: &'static str, value: &str) -> Option<UpstreamCredential> {
    let value = Source::Inline { span: Span::default(), value: crate::secret::Secret::new(value) };
    Some(UpstreamCredential::Header { name: http::HeaderName::from_static(name), value })
}

/// No material.
pub(crate) struct Nothing;

impl Materials for Nothing {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is none".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// A call: `DELETE /accounts/{subject}`.
pub(crate) fn call(name: &str, upstream: &str, request: &str) -> Call {
    let (method, target) = request.split_once(' ').unwrap();
    Call {
        name: name.into(),
        upstream: upstream.into(),
        method: method.into(),
        target: target.into(),
        headers: Vec::new(),
        body: None,
        capture: BTreeMap::new(),
        timeout_secs: 5,
    }
}
