//! Plain requests in a line: `get("/api/x").bearer(&token).send(&gateway)`.

use std::net::{IpAddr, Ipv4Addr};

use super::{Answer, Gateway, Wire, secrets};

/// A request in the making.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    source: IpAddr,
}

/// A GET.
pub fn get(target: &str) -> Request {
    Request::new("GET", target)
}

/// A POST with a body.
pub fn post(target: &str, body: &str) -> Request {
    Request::new("POST", target).body(body)
}

/// A DELETE.
pub fn delete(target: &str) -> Request {
    Request::new("DELETE", target)
}

impl Request {
    /// A request with any method.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "gateway.example".to_owned(),
            headers: Vec::new(),
            body: None,
            source: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token, which no log may show.
    pub fn bearer(self, token: &str) -> Self {
        secrets::remember_token(token);
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Names another host.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sets the body, framed by Content-Length.
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self
    }

    /// Sends it from another loopback address.
    pub fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    /// The bytes that go over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it over a connection of its own to the gateway's plain port.
    #[track_caller]
    pub fn send(&self, gateway: &Gateway) -> Answer {
        self.send_to(gateway.port)
    }

    /// Sends it to any port.
    #[track_caller]
    pub fn send_to(&self, port: u16) -> Answer {
        self.send_on(&mut Wire::connect_from(self.source, port))
    }

    /// Sends it over a connection that is open already.
    #[track_caller]
    pub fn send_on(&self, wire: &mut Wire) -> Answer {
        wire.send(self.bytes());
        if self.method == "HEAD" { wire.answer_to_head() } else { wire.answer() }
    }
}
