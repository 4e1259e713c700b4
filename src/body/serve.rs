//! The seam between the sockets and the request's path: what a server drives, and what it knows of a connection.

use std::{any::Any, cell::RefCell, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc};

use http::{HeaderValue, Request, Response};

use super::{ClientCertificate, ConnectionWatch, Received, ResponseBody, Tail};

/// What a worker drives with the requests of its connections. It cannot fail: a fault is an answer.
pub trait Serve: 'static {
    /// What is told when an answer's body ends.
    type Tail: Tail;

    /// Answers one request. Dropping the future means that the client is gone.
    fn serve(
        &self,
        info: Rc<ConnectionInfo>,
        request: Request<Received>,
    ) -> impl Future<Output = Response<ResponseBody<Self::Tail>>>;

    /// Has the streams end whose protocol was switched, as their connections are about to be cut. Gives whether there are any.
    fn close_streams(&self) -> bool {
        false
    }
}

/// A service that few requests go to, behind a pointer: all of them share one copy of the server's code, down to hyper's, where
/// each would otherwise have one of its own.
pub struct Aside(Box<dyn ServeBoxed>);

trait ServeBoxed {
    fn serve_boxed<'a>(
        &'a self,
        info: Rc<ConnectionInfo>,
        request: Request<Received>,
    ) -> Pin<Box<dyn Future<Output = Response<ResponseBody<()>>> + 'a>>;

    fn close_streams_boxed(&self) -> bool;
}

impl<S: Serve<Tail = ()>> ServeBoxed for S {
    fn serve_boxed<'a>(
        &'a self,
        info: Rc<ConnectionInfo>,
        request: Request<Received>,
    ) -> Pin<Box<dyn Future<Output = Response<ResponseBody<()>>> + 'a>> {
        Box::pin(self.serve(info, request))
    }

    fn close_streams_boxed(&self) -> bool {
        self.close_streams()
    }
}

impl Aside {
    /// The service behind its pointer.
    pub fn new(service: impl Serve<Tail = ()>) -> Rc<Self> {
        Rc::new(Self(Box::new(service)))
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aside").finish_non_exhaustive()
    }
}

impl Serve for Aside {
    type Tail = ();

    fn serve(
        &self,
        info: Rc<ConnectionInfo>,
        request: Request<Received>,
    ) -> impl Future<Output = Response<ResponseBody<()>>> {
        self.0.serve_boxed(info, request)
    }

    fn close_streams(&self) -> bool {
        self.0.close_streams_boxed()
    }
}

/// What is known of a client's connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The client of the connection: the other end of the socket, or who a relay says that it connects for. An IPv4 address
    /// mapped into IPv6 is given as IPv4; a peer without an address has the unspecified one, which is nobody's.
    pub peer: SocketAddr,
    /// How we know of the peer.
    pub arrival: Arrival,
    /// Our end of the socket.
    pub local: SocketAddr,
    /// The listener's address as configured.
    pub listener: Arc<str>,
    /// The listener's place in the configuration that was in force when the connection was accepted.
    pub listener_index: usize,
    /// How TLS was agreed, where it is spoken.
    pub tls: Option<TlsInfo>,
    /// What the connection is waiting for.
    pub watch: Rc<ConnectionWatch>,
    /// What the service remembers of it.
    pub memory: Memory,
    /// Where the same is served in another way, if it is.
    pub alternative: Option<Rc<Alternative>>,
}

/// Where else a listener's service is found, as it is told to clients now (RFC 7838): another protocol on another port. It
/// can change while their connections last.
#[derive(Debug, Default)]
pub struct Alternative(RefCell<Option<HeaderValue>>);

impl Alternative {
    /// What `Alt-Svc` is to say.
    pub fn field(&self) -> Option<HeaderValue> {
        self.0.borrow().clone()
    }

    /// Says this from now on.
    pub fn set(&self, field: Option<HeaderValue>) {
        *self.0.borrow_mut() = field;
    }
}

/// How a connection came, and with it how its peer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// From the peer itself.
    Direct,
    /// Over a Unix socket, from a process of this machine.
    Unix,
    /// From a relay, which told of the peer by the PROXY protocol.
    Relay {
        /// The relay's own address; `None` where it is on a Unix socket.
        address: Option<SocketAddr>,
        /// Whether it says that the client spoke TLS with it.
        tls: bool,
    },
}

impl ConnectionInfo {
    /// Whether nobody between the client and us reads what is sent: TLS, or this machine.
    pub fn is_confidential(&self) -> bool {
        let here = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        self.tls.is_some()
            || match self.arrival {
                Arrival::Direct => here(&self.peer),
                Arrival::Unix => true,
                // Beyond the relay the way is the client's: what is not told to be TLS is not.
                Arrival::Relay { address, tls } => address.as_ref().is_none_or(here) && (tls || here(&self.peer)),
            }
    }
}

/// What a service remembers of a connection from one request to the next: one thing, of its own choosing. It ends with
/// the connection, so that there is no bound to keep and nobody else's request can meet it.
#[derive(Debug, Default)]
pub struct Memory(RefCell<Option<Rc<dyn Any>>>);

impl Memory {
    /// What was kept last, if it is a `T`.
    pub fn recall<T: 'static>(&self) -> Option<Rc<T>> {
        self.0.borrow().clone()?.downcast().ok()
    }

    /// Keeps `thing` in place of what was kept before.
    pub fn keep<T: 'static>(&self, thing: Rc<T>) {
        *self.0.borrow_mut() = Some(thing);
    }
}

/// What a TLS handshake agreed.
#[derive(Debug)]
pub struct TlsInfo {
    /// The version, as `TLSv1.3`.
    pub version: &'static str,
    /// The name that the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// The protocol that ALPN chose (RFC 7301), if the client offered any.
    pub alpn: Option<AlpnChoice>,
    /// The certificates that the client showed, verified by the listener's authorities.
    pub client_certificate: Option<ClientCertificate>,
}

/// A protocol that ALPN chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlpnChoice {
    /// `h2`
    H2,
    /// `http/1.1`
    Http1,
    /// `h3`
    H3,
}
