//! `notify`: what people and systems are told by.

use std::time::Duration;

use super::SecretText;
use crate::config::{
    MailServer,
    decode::{At, Named, section},
    text::{FilePath, Sender, WebhookUrl},
};

section! {
    /// What people and systems are told by: codes, and changes that somebody has to know of. See docs/notify.md.
    "notify" Notify {
        /// The mail server.
        mail: Option<Mail>,
        /// Webhooks, by name; `mail` is taken.
        webhooks: Named<Webhook> = "{}",
    }
}

section! {
    /// How mail is sent.
    "mail" Mail {
        /// The server. `smtps://` begins with TLS (port 465), `smtp://` demands STARTTLS (port 587).
        server: At<MailServer>,
        /// Sends without TLS, to a `smtp://` server on loopback that has none: whoever is on the way reads every code.
        danger_cleartext: At<bool> = "false",
        /// Who the gateway is there.
        username: Option<At<String>>,
        /// The password.
        password: Option<SecretText>,
        /// Whom mail is from: `security@example.com` or `Example <security@example.com>`.
        from: At<Sender>,
        /// Certificates (PEM) that vouch for the server, instead of the machine's.
        ca: Option<At<FilePath>>,
        /// How long the delivery of one message may take.
        timeout: At<Duration> = "30s",
    }
}

section! {
    /// A system that is told, by POST; messages are signed as Standard Webhooks has it.
    "a receiver of webhooks" Webhook {
        /// Where it is; https, except on loopback.
        url: At<WebhookUrl>,
        /// What messages are signed with: base64 of 24 to 64 bytes, `whsec_` before it or not. `openssl rand -base64 32` makes one.
        secret: SecretText,
        /// The secret before this one: messages carry a signature of each, until every receiver knows the new one.
        previous_secret: Option<SecretText>,
        /// How long one attempt may take, from the connection to the status.
        timeout: At<Duration> = "5s",
        /// Certificates (PEM) that vouch for it, instead of the machine's.
        ca: Option<At<FilePath>>,
    }
}
