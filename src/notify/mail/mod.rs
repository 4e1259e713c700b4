//! Mail by SMTP (RFC 5321, submission of RFC 6409): a connection for each message, and a fault for each stage of it. What
//! concerns the gateway and its server is tried again; what concerns the recipient, and is for good, is not.

mod letter;
mod wire;

use std::time::Duration;

use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::AsyncSmtpConnection,
        commands::{Data, Mail as MailFrom, Rcpt},
        extension::ClientId,
    },
};
use tokio::time::timeout;

use self::wire::{SmtpFault, connect};
use super::{Delivery, check, message::Waiting};
use crate::{
    client::{Connector, MachineRoots, authorities},
    config::{Mail, MailServer, Materials, Problem},
};

/// How long the farewell may take, once the server has the message.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends mail.
pub(super) struct Mailer {
    server: MailServer,
    credentials: Option<Credentials>,
    from: Mailbox,
    /// What the gateway calls itself: the domain that mail is from. The machine's own name is nobody's business.
    hello: ClientId,
    connector: Connector,
    timeout: Duration,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What kept a message from being delivered.
enum Trouble {
    /// The gateway and its server: for another time.
    Server(SmtpFault),
    /// The recipient or the message: for good, if the server says so.
    Message(SmtpFault),
}

impl Mailer {
    pub(super) fn new(mail: &Mail, materials: &dyn Materials, roots: &MachineRoots) -> Result<Self, Problem> {
        let credentials = match &mail.login {
            None => None,
            Some(login) => {
                let password = materials.secret(&login.password)?;
                let text = std::str::from_utf8(password.expose())
                    .ok()
                    .filter(|text| !text.chars().any(char::is_control))
                    .ok_or_else(|| Problem::error(login.password.span(), "a mail server's password is text"))?;
                Some(Credentials::new(login.username.to_string(), text.to_owned()))
            }
        };
        let ca = authorities(mail.ca.as_ref(), materials)?;
        Ok(Self {
            server: mail.server.clone(),
            credentials,
            from: mail.from.clone(),
            hello: ClientId::Domain(mail.from.email.domain().to_owned()),
            connector: Connector::new(roots.unless(ca.as_deref()), None, None)
                .map_err(|error| Problem::error(&mail.span, format!("TLS to the mail server: {error}")))?,
            timeout: mail.timeout,
        })
    }

    /// Sends a message to this address.
    pub(super) async fn deliver(&self, waiting: &Waiting, to: &str) -> Delivery {
        let Some(to) = check::address(to) else { return Delivery::Refused("it is not an address".to_owned()) };
        let Some(letter) = letter::write(waiting, &self.from, &to) else {
            return Delivery::Refused("it cannot be written as mail".to_owned());
        };
        match self.send(to, &letter).await {
            Ok(mut connection) => {
                // The server has it: whether it says goodbye changes nothing.
                let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
                Delivery::Delivered
            }
            Err(Trouble::Message(fault)) if fault.is_for_good() => Delivery::Refused(fault.to_string()),
            Err(Trouble::Message(fault) | Trouble::Server(fault)) => Delivery::Later(fault.to_string()),
        }
    }

    async fn send(&self, to: Address, letter: &[u8]) -> Result<AsyncSmtpConnection, Trouble> {
        let spoken = async {
            let mut smtp = connect(&self.server, &self.connector, &self.hello).await.map_err(Trouble::Server)?;
            let server = |stage| move |error| Trouble::Server(SmtpFault::of(stage, &error));
            let message = |stage| move |error| Trouble::Message(SmtpFault::of(stage, &error));
            if let Some(credentials) = &self.credentials {
                smtp.auth(DEFAULT_MECHANISMS, credentials).await.map_err(server("the login"))?;
            }
            // Who may not send from here is a matter of the configuration, not of this message.
            let from = MailFrom::new(Some(self.from.email.clone()), Vec::new());
            smtp.command(from).await.map_err(server("the sender"))?;
            smtp.command(Rcpt::new(to, Vec::new())).await.map_err(message("the recipient"))?;
            smtp.command(Data).await.map_err(message("the message"))?;
            smtp.message(letter).await.map_err(message("the message"))?;
            Ok(smtp)
        };
        timeout(self.timeout, spoken).await.unwrap_or(Err(Trouble::Server(SmtpFault::Late(self.timeout))))
    }
}
