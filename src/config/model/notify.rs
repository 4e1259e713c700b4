//! What people and systems are told by.

use std::{sync::Arc, time::Duration};

use lettre::message::Mailbox;
use url::{Host, Url};

use super::{File, Source, Span};

/// What people and systems are told by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Where it stands in the file.
    pub span: Span,
    /// How mail is sent; `None`: none is.
    pub mail: Option<Mail>,
    /// Webhooks, in the order of the file; none is named `mail`.
    pub webhooks: Vec<Webhook>,
}

/// How mail is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Where it stands in the file.
    pub span: Span,
    /// The server.
    pub server: MailServer,
    /// Who the gateway is there; `None`: it does not log in.
    pub login: Option<MailLogin>,
    /// Whom mail is from.
    pub from: Mailbox,
    /// Certificates that vouch for the server, instead of the machine's.
    pub ca: Option<File>,
    /// How long the delivery of one message may take.
    pub timeout: Duration,
}

/// An address is nobody's business but its owner's.
impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("server", &self.server).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Who the gateway is at the mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLogin {
    /// The user name.
    pub username: Arc<str>,
    /// The password.
    pub password: Source,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// How it is protected.
    pub protection: MailProtection,
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

/// How the way to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailProtection {
    /// TLS from the first byte (RFC 8314 §3.3).
    Tls,
    /// TLS by STARTTLS (RFC 3207), or nothing is sent.
    StartTls,
    /// None: whoever is on the way reads the mail.
    Cleartext,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is: https, or http to loopback.
    pub url: Url,
    /// What messages are signed with.
    pub secret: Source,
    /// What they were signed with before: they carry a signature of each.
    pub previous_secret: Option<Source>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Certificates that vouch for it, instead of the machine's.
    pub ca: Option<File>,
}
