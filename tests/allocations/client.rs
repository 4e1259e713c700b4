//! Clients that ask one thing again and again over one connection, and wait for each answer.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_rustls::TlsConnector;

use super::harness::Wire;

/// The name that is asked for, and that the certificate is for.
pub const NAME: &str = "gateway.example";

/// What is asked, and what has to be answered.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub fields: &'a [(&'a str, &'a str)],
    pub status: u16,
}

/// A client that keeps its connection.
pub enum Client {
    Http1(Wire),
    Http2(Box<Http2>),
}

/// Over HTTP/2: hyper's client, as its header compression is what others have, too.
pub struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Empty<bytes::Bytes>>,
}

impl Client {
    pub fn plain(address: SocketAddr) -> Self {
        Self::Http1(Wire::connect(address.port()))
    }

    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::Http1(Wire::tls(address.port(), NAME, config).unwrap())
    }

    pub fn http2(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let requests = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let tls = TlsConnector::from(config).connect(ServerName::try_from(NAME).unwrap(), tcp).await.unwrap();
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
            let (requests, connection) = shaken.await.unwrap();
            tokio::spawn(connection);
            requests
        });
        Self::Http2(Box::new(Http2 { runtime, requests }))
    }

    /// Asks so many times.
    pub fn ask(&mut self, asked: &Asked<'_>, times: u64) {
        match self {
            Self::Http1(wire) => {
                let fields: String = asked.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("GET /items/1 HTTP/1.1\r\nhost: {NAME}\r\n{fields}\r\n");
                for _ in 0..times {
                    wire.send(&head).answer().expect(asked.status);
                }
            }
            Self::Http2(http2) => http2.ask(asked, times),
        }
    }
}

impl Http2 {
    fn ask(&mut self, asked: &Asked<'_>, times: u64) {
        let field = |(name, value): &(&str, &str)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        };
        let headers: HeaderMap = asked.fields.iter().map(field).collect();
        for _ in 0..times {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = format!("https://{NAME}/items/1").parse().unwrap();
            *request.version_mut() = Version::HTTP_2;
            *request.headers_mut() = headers.clone();
            let requests = &mut self.requests;
            self.runtime.block_on(async {
                requests.ready().await.unwrap();
                let answer = requests.send_request(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::from_u16(asked.status).unwrap());
                answer.into_body().collect().await.unwrap();
            });
        }
    }
}
