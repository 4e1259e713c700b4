//! Why an upstream gave no answer, told apart as far as an operator can act on the difference.

use std::{error::Error, io};

use super::http1::BadAnswer;

/// An error of somebody else's body.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFault {
    /// No connection could be made, so nothing was sent.
    #[error("connecting to {target}")]
    Unreachable {
        /// The last target that was tried.
        target: String,
        /// Why.
        source: ConnectFault,
    },
    /// The TCP connection stood, and TLS failed on it, so nothing was sent.
    #[error("TLS with {target}")]
    Tls {
        /// The last target that was tried.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The connection was closed or broken before the answer was whole.
    #[error("connection lost before the answer was whole")]
    Reset(#[source] Option<BoxError>),
    /// What came is not an answer that may be passed on.
    #[error("invalid answer")]
    Invalid(#[from] InvalidAnswer),
    /// No head of an answer came within the upstream's `timeouts.response`.
    #[error("no answer in time")]
    Timeout,
    /// The answer was not over within the time that the request had, all attempts together.
    #[error("out of time")]
    Deadline,
    /// As many requests are under way as may be, and too many wait or this one waited for too long: nothing was sent.
    #[error("too many requests under way")]
    Busy,
    /// The request's body failed on the client's side while it was sent; the upstream is not to blame.
    #[error("reading the request's body")]
    RequestBody(#[source] BoxError),
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// The name has no address.
    #[error("resolving the name: {0}")]
    Resolve(#[source] io::Error),
    /// Every address refused, or can't be routed to.
    #[error(transparent)]
    Io(io::Error),
    /// TCP and TLS together took longer than `timeouts.connect`.
    #[error("no connection in time")]
    Timeout,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// It breaks RFC 9112, or its head is too large.
    #[error(transparent)]
    Http1(#[from] BadAnswer),
    /// It breaks RFC 9113.
    #[error(transparent)]
    Http2(hyper::Error),
    /// 101, though no upgrade was asked for.
    #[error("switching protocols without being asked")]
    Upgrade,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1): its end can't be told without undoing it.
    #[error("unknown transfer coding")]
    TransferCoding,
    /// Several or malformed `Content-Length` fields (RFC 9112 §6.3).
    #[error("ambiguous Content-Length")]
    ContentLength,
}

/// The kinds of [`UpstreamFault`], for labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the variant of UpstreamFault of the same name")]
pub enum FaultKind {
    Unreachable,
    Tls,
    Reset,
    Invalid,
    Timeout,
    Deadline,
    Busy,
    RequestBody,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Tls,
        Self::Reset,
        Self::Invalid,
        Self::Timeout,
        Self::Deadline,
        Self::Busy,
        Self::RequestBody,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Invalid => "invalid",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::RequestBody => "request_body",
        }
    }
}

impl UpstreamFault {
    /// The kind of fault this is.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Unreachable { .. } => FaultKind::Unreachable,
            Self::Tls { .. } => FaultKind::Tls,
            Self::Reset(_) => FaultKind::Reset,
            Self::Invalid(_) => FaultKind::Invalid,
            Self::Timeout => FaultKind::Timeout,
            Self::Deadline => FaultKind::Deadline,
            Self::Busy => FaultKind::Busy,
            Self::RequestBody(_) => FaultKind::RequestBody,
        }
    }

    /// Tells a broken connection of HTTP/2 from a broken answer.
    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        if h2_error(&error).is_some_and(h2::Error::is_library) {
            Self::Invalid(InvalidAnswer::Http2(error))
        } else {
            Self::Reset(Some(error.into()))
        }
    }
}

/// What HTTP/2 says is wrong: by the peer, or found by us in what it sent.
pub(super) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

impl From<BadAnswer> for UpstreamFault {
    fn from(fault: BadAnswer) -> Self {
        Self::Invalid(fault.into())
    }
}
