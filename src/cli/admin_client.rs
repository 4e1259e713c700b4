//! One call of the admin API of a gateway that runs on this machine.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::{secret::Secret, server::AdminAnswer};

/// How long an answer may take: the disk's slowest moment, and then some.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum ClientFault {
    #[error("calling the admin API at {address}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("speaking to the admin API at {address}")]
    Http { address: SocketAddr, source: hyper::Error },
    #[error("the admin API at {0} does not answer")]
    Silent(SocketAddr),
    #[error("the admin token cannot be sent in a header")]
    Token(#[source] http::Error),
    #[error("what answers at {0} is not the admin API of a gateway")]
    Foreign(SocketAddr),
}

/// Makes a call.
pub(super) fn call(
    address: SocketAddr,
    token: &Secret,
    method: Method,
    target: &str,
    body: String,
) -> Result<AdminAnswer, ClientFault> {
    let address = reachable(address);
    let connect = |source| ClientFault::Connect { address, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(connect)?;
    let mut credential = b"Bearer ".to_vec();
    credential.extend_from_slice(token.expose());
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, credential)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(ClientFault::Token)?;
    runtime.block_on(async {
        let exchange = exchange(address, request);
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(ClientFault::Silent(address)))
    })
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<AdminAnswer, ClientFault> {
    let http = |source| ClientFault::Http { address, source };
    let stream = TcpStream::connect(address).await.map_err(|source| ClientFault::Connect { address, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let driver = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(http)?.into_parts();
    let body = body.collect().await.map_err(http)?.to_bytes();
    driver.abort();
    let body: Value = serde_json::from_slice(&body).map_err(|_| ClientFault::Foreign(address))?;
    Ok(AdminAnswer { status: head.status, body })
}

/// An address that listens everywhere is called on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}
