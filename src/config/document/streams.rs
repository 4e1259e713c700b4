//! What a route says of streams: protocols that it switches to, and gRPC for browsers.

use crate::config::decode::words;

/// A protocol that a connection may be switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum UpgradeTo {
    /// RFC 6455, RFC 8441.
    WebSocket,
}

words! { UpgradeTo, "a protocol to upgrade to":
    "websocket" => Self::WebSocket, "WebSocket, over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441)";
}

/// What becomes of gRPC-Web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum GrpcWeb {
    /// It goes through as it is.
    Pass,
    /// It becomes gRPC on its way, and its answer gRPC-Web again.
    Translate,
}

words! { GrpcWeb, "what becomes of gRPC-Web":
    "pass" => Self::Pass, "nothing: the service speaks it";
    "translate" => Self::Translate, "it becomes gRPC, for a service that knows nothing of it";
}
