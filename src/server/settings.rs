//! How a listener's connections are served: its limits, what of HTTP/2 a client may ask for, and what an answer has besides.

use std::rc::Rc;

use h2::server as http2;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::server::conn::http1;

use super::date::DateLine;
use crate::{
    body::Bounds,
    clock::{Clock, SystemClock},
    config::ServerLimits,
};

/// The most of a body that is read ahead or written behind in HTTP/1.1.
const BUFFER_BYTES: usize = 128 * 1024;

/// Streams at once on one connection, as RFC 9113 §6.5.2 advises at least 100.
pub(super) const STREAMS: u32 = 128;

/// Of one request's body that a client may send ahead: enough for 20 Mbit/s at 100 ms.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;

/// Of all requests' bodies on one connection: the bound on what one client can make us hold.
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Of one answer that is held for a client whose window is open but whose socket is not.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that a client may reset before they were looked at, and that its faults may make us reset, before the
/// connection ends (CVE-2023-44487, CVE-2023-26964).
const PENDING_RESETS: usize = 32;
const ERROR_RESETS: usize = 128;

/// What the connections of a listener are served with.
#[derive(Debug)]
pub(super) struct HttpSettings {
    pub(super) http1: http1::Builder,
    pub(super) bounds: Rc<Bounds>,
    header_list_bytes: u32,
    dates: DateLine,
}

impl HttpSettings {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .keep_alive(true)
            // The watch times heads, for every protocol alike.
            .header_read_timeout(None)
            // Looks for the client's end while the upstream works; the watch gives a half-closed one its moment.
            .half_close(false)
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(BUFFER_BYTES.max(limits.header_bytes));
        Self {
            http1,
            bounds: Rc::new(super::plan::bounds(limits)),
            header_list_bytes: u32::try_from(limits.header_bytes).unwrap_or(u32::MAX),
            dates: DateLine::default(),
        }
    }

    /// The bound on a head, counted as HTTP/2 and HTTP/3 count it.
    pub(super) fn header_list_bytes(&self) -> u32 {
        self.header_list_bytes
    }

    pub(super) fn http2(&self) -> http2::Builder {
        let mut http2 = http2::Builder::new();
        http2
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(self.header_list_bytes)
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(ERROR_RESETS))
            // RFC 8441: offered always, as routes come and go while a connection stands; what no route upgrades is refused.
            .enable_connect_protocol();
        http2
    }

    /// Makes the fields of an answer whole over HTTP/2 and HTTP/3, as hyper does over HTTP/1.1: a date (RFC 9110 §6.6.1), and how long
    /// the body is, where that is known.
    pub(super) fn complete(&self, fields: &mut HeaderMap, length: Option<u64>) {
        if !fields.contains_key(header::DATE)
            && let Some(date) = self.dates.at(SystemClock.now())
        {
            fields.insert(header::DATE, date);
        }
        if let Some(length) = length
            && !fields.contains_key(header::CONTENT_LENGTH)
        {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
}

/// Whether a field is of a connection of HTTP/1.1 (RFC 9113 §8.2.2, RFC 9114 §4.2).
pub(super) fn is_of_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
}
