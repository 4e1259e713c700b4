//! The connection to the mail server: TLS from the first byte, or STARTTLS (RFC 3207), or in the clear where the
//! configuration says so. Without TLS where it is asked for, nothing is sent.
//!
//! STARTTLS is spoken here and not by the library, since what a server, or somebody on the way to it, says before TLS must
//! count for nothing afterwards (§6): bytes that come behind the go-ahead, and before the handshake, end the attempt.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use lettre::transport::smtp::{
    Error,
    client::{AsyncSmtpConnection, AsyncTokioStream},
    extension::ClientId,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use url::Host;

use crate::{
    client::{Connector, open},
    config::{MailProtection, MailServer},
};

/// The longest reply that is read before TLS.
const REPLY_BYTES: usize = 16 << 10;

/// Why a mail server did not take a message. None quotes what the server said: that often names the recipient.
#[derive(Debug, Error)]
pub(super) enum SmtpFault {
    #[error("connecting to the mail server: {0}")]
    Connect(io::Error),
    #[error("TLS to the mail server: {0}")]
    Tls(io::Error),
    #[error("the mail server offers no STARTTLS")]
    NoTls,
    #[error("before TLS began, more came than the mail server was asked for")]
    Injected,
    #[error("the mail server speaks no SMTP before TLS")]
    Broken,
    #[error("the mail server closed the connection before TLS: {0}")]
    Closed(io::Error),
    #[error("the mail server refused {stage}: {code}")]
    Code { stage: &'static str, code: u16 },
    #[error("the mail server did not answer {stage} in SMTP: {why}")]
    Wire { stage: &'static str, why: &'static str },
    #[error("the mail server took longer than {0:?}")]
    Late(Duration),
}

impl SmtpFault {
    /// A fault of the library's at some stage.
    pub(super) fn of(stage: &'static str, error: &Error) -> Self {
        match error.status() {
            Some(code) => Self::Code { stage, code: code.into() },
            None if error.is_client() => Self::Wire { stage, why: "it offers nothing that both can do" },
            None if error.is_response() => Self::Wire { stage, why: "a broken reply, or none" },
            None => Self::Wire { stage, why: "the connection broke" },
        }
    }

    /// Whether the server says that it will never be otherwise (RFC 5321 §4.2.1).
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::Code { code: 500..=599, .. })
    }
}

/// Connects, protected as the configuration says, up to the server's offer.
pub(super) async fn connect(
    server: &MailServer,
    connector: &Connector,
    hello: &ClientId,
) -> Result<AsyncSmtpConnection, SmtpFault> {
    let host = borrowed(&server.host);
    let mut stream = open(host.clone(), server.port).await.map_err(SmtpFault::Connect)?;
    let stream: Box<dyn AsyncTokioStream> = match server.protection {
        MailProtection::Cleartext => Box::new(stream),
        MailProtection::Tls => {
            let stream = connector.secure(host, stream).await.map_err(SmtpFault::Tls)?;
            Box::new(Opened { unread: b"", stream })
        }
        MailProtection::StartTls => {
            ask_for_tls(&mut stream, hello).await?;
            let stream = connector.secure(host, stream).await.map_err(SmtpFault::Tls)?;
            Box::new(Opened { unread: GREETING, stream })
        }
    };
    let opened = AsyncSmtpConnection::connect_with_transport(stream, hello).await;
    opened.map_err(|error| SmtpFault::of("the greeting", &error))
}

fn borrowed(host: &Host) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(ip) => Host::Ipv4(*ip),
        Host::Ipv6(ip) => Host::Ipv6(*ip),
    }
}

/// Speaks until the server goes ahead with TLS.
async fn ask_for_tls(stream: &mut TcpStream, hello: &ClientId) -> Result<(), SmtpFault> {
    reply(stream, "the greeting", 220).await?;
    stream.write_all(format!("EHLO {hello}\r\n").as_bytes()).await.map_err(SmtpFault::Closed)?;
    let offer = reply(stream, "the greeting", 250).await?;
    if !offer.lines().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"))) {
        return Err(SmtpFault::NoTls);
    }
    stream.write_all(b"STARTTLS\r\n").await.map_err(SmtpFault::Closed)?;
    reply(stream, "STARTTLS", 220).await.map(drop)
}

/// Reads one reply and not a byte more: what comes behind it unasked is a fault.
async fn reply(stream: &mut TcpStream, stage: &'static str, wanted: u16) -> Result<String, SmtpFault> {
    let mut read = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut read).await.map_err(SmtpFault::Closed)? == 0 {
            return Err(SmtpFault::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        if read.len() > REPLY_BYTES {
            return Err(SmtpFault::Broken);
        }
        let Some(end) = end_of_reply(&read)? else { continue };
        if end < read.len() {
            return Err(SmtpFault::Injected);
        }
        let text = String::from_utf8(read).map_err(|_| SmtpFault::Broken)?;
        let code = text.get(..3).and_then(|code| code.parse().ok()).ok_or(SmtpFault::Broken)?;
        return if code == wanted { Ok(text) } else { Err(SmtpFault::Code { stage, code }) };
    }
}

/// Where the first reply ends: behind the first line whose code is not followed by a hyphen (RFC 5321 §4.2.1).
fn end_of_reply(read: &[u8]) -> Result<Option<usize>, SmtpFault> {
    let mut end = 0;
    for line in read.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        end += line.len();
        match line {
            [a, b, c, rest @ ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => match rest {
                [b'-', ..] => {}
                [b' ' | b'\r' | b'\n', ..] => return Ok(Some(end)),
                _ => return Err(SmtpFault::Broken),
            },
            _ => return Err(SmtpFault::Broken),
        }
    }
    Ok(None)
}

/// The library begins with the greeting, and behind STARTTLS there is none: the client says EHLO again (RFC 3207 §4.2).
const GREETING: &[u8] = b"220 TLS\r\n";

/// A protected stream, with what is to be read before it.
struct Opened<S> {
    unread: &'static [u8],
    stream: S,
}

impl<S> fmt::Debug for Opened<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let (now, later) = self.unread.split_at(self.unread.len().min(buf.remaining()));
        buf.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Opened<tokio_rustls::client::TlsStream<TcpStream>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.peer_addr()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_server_says_a_reply_ends_behind_a_line_or_not_at_all(read in "(?s)([0-9]{0,4}[- \\r]?.{0,6}\\r?\\n?){0,5}") {
            if let Ok(Some(end)) = end_of_reply(read.as_bytes()) {
                prop_assert!(end <= read.len() && read.as_bytes()[..end].ends_with(b"\n"));
            }
        }
    }

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(end_of_reply(b"220 hello\r\n").unwrap(), Some(11));
        assert_eq!(end_of_reply(b"250-a\r\n250 b\r\nmore").unwrap(), Some(14));
        for part in [&b""[..], b"2", b"220 hello", b"250-a\r\n", b"250-a\r\n250 b"] {
            assert_eq!(end_of_reply(part).unwrap(), None);
        }
        for bad in [&b"\r\n"[..], b"22 hello\r\n", b"220hello\r\n", b"hello\r\n"] {
            assert!(end_of_reply(bad).is_err());
        }
    }
}
