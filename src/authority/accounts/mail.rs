//! What is mailed: codes that confirm an address, and notices of changes. A notice is in the commit of what it tells of; its texts
//! say what happened and what to do, and hold no link, as people who click links in such mail are who phishing lives on.

use serde_json::json;

use super::{Accounts, rows::Account};
use crate::{
    authority::{Fault, random},
    clock::Now,
    notify::{Channel, EnqueueFault, Message, new_id},
    store::{Batch, Store, StoreFault, Table, Versioned},
};

/// How long a code that was mailed is good for, in seconds.
pub(super) const CODE_SECS: u64 = 15 * 60;
/// How often a mailed code may be tried.
pub(super) const LOOKS: u32 = 5;
/// How long a notice is worth delivering: three days, as a mail server may be down over a weekend.
const NOTICE_SECS: u64 = 3 * 86_400;
/// Letters and digits that are not taken for one another (Crockford's base32): 32 of them.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A change that its owner is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Registered,
    PasswordChanged,
    MailChanged,
    Recovered,
    TokenReused,
}

impl Told {
    fn kind(self) -> &'static str {
        match self {
            Self::Registered => "account_registered",
            Self::PasswordChanged => "password_changed",
            Self::MailChanged => "mail_changed",
            Self::Recovered => "account_recovered",
            Self::TokenReused => "refresh_token_reused",
        }
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Registered => ("Your account", "An account was made for this address."),
            Self::PasswordChanged => (
                "Your password was changed",
                "The password of your account was changed, and every other session was ended. If that was not you, recover \
                 your account at once.",
            ),
            Self::MailChanged => (
                "Your mail address was changed",
                "The mail address of your account was changed. If that was not you, ask the operator of this service for help.",
            ),
            Self::Recovered => (
                "Your account was recovered",
                "A new password was set for your account by a code that was mailed to this address, and every session was \
                 ended. If that was not you, recover your account at once and see whether somebody else reads your mail.",
            ),
            Self::TokenReused => (
                "A session of your account was ended",
                "A refresh token of your account was used twice. Perhaps somebody has stolen it, so the session was ended. Sign \
                 in again; if this happens once more, change your password.",
            ),
        }
    }
}

impl Accounts {
    /// A code of 50 random bits, ten letters: nobody guesses it in five tries, nor in as many as there are seconds in a year.
    pub(super) fn mail_code() -> Result<String, Fault> {
        let mut code = String::with_capacity(11);
        for place in 0..10 {
            if place == 5 {
                code.push('-');
            }
            let letter = LETTERS.get(random::below(32)? as usize).copied().unwrap_or(b'0');
            code.push(char::from(letter));
        }
        Ok(code)
    }

    /// A code as it is kept: by the store's own key, so that a copy of the file says nothing.
    pub(super) fn code_digest(&self, id: &str, code: &str) -> String {
        let plain = code.bytes().filter(u8::is_ascii_alphanumeric).map(|b| match b.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        });
        self.store().index("mailed code", &[id.as_bytes(), &plain.collect::<Vec<u8>>()])
    }

    /// Adds a code to a commit.
    pub(super) fn mail_a_code(
        &self,
        batch: Batch,
        to: &str,
        code: &str,
        for_what: &str,
        now: Now,
    ) -> Result<Batch, Fault> {
        let text = format!(
            "Your code is {code}\n\nIt is for {for_what}, and good for {} minutes. Give it to nobody: whoever asks you for it is \
             not us. If you asked for nothing, ignore this mail.\n",
            CODE_SECS / 60
        );
        let expires_at = now.unix_secs().saturating_add(CODE_SECS);
        self.enqueue(batch, mail(to, "code", "Your code", text, expires_at)?, now)
    }

    /// Adds a line to whoever has an account already that somebody tried to register another one.
    pub(super) fn mail_that_known(&self, batch: Batch, to: &str, now: Now) -> Result<Batch, Fault> {
        let text = "Somebody asked for an account for this address, which has one already. If that was you, sign in, or recover \
                    your account. If not, nothing has happened.\n";
        let expires_at = now.unix_secs().saturating_add(CODE_SECS);
        self.enqueue(batch, mail(to, "code", "Your account", text.to_owned(), expires_at)?, now)
    }

    /// Adds notices of a change to a commit: to the account's address, and to the webhook that hears of every change.
    pub(super) fn tell(&self, batch: Batch, account: &Account, told: Told, now: Now) -> Result<Batch, Fault> {
        let (subject, text) = told.texts();
        let expires_at = now.unix_secs().saturating_add(NOTICE_SECS);
        let mut batch = batch;
        if let Some(to) = &account.mail {
            batch = self.notice(batch, mail(to, told.kind(), subject, format!("{text}\n"), expires_at)?, now)?;
        }
        if let Some(name) = &self.authority.notices.webhook {
            let message = Message {
                id: number()?,
                channel: Channel::Webhook { name: name.as_ref().to_owned() },
                kind: told.kind().to_owned(),
                subject: String::new(),
                text: String::new(),
                data: json!({"issuer": &*self.issuer, "subject": account.id}),
                expires_at,
            };
            batch = self.notice(batch, message, now)?;
        }
        Ok(batch)
    }

    /// A notice that no channel is configured for is none; one that finds no room stops the change.
    fn notice(&self, batch: Batch, message: Message, now: Now) -> Result<Batch, Fault> {
        if self.means.outbox.has(&message.channel) { self.enqueue(batch, message, now) } else { Ok(batch) }
    }

    fn enqueue(&self, batch: Batch, message: Message, now: Now) -> Result<Batch, Fault> {
        self.means.outbox.enqueue(batch, message, now).map_err(not_taken)
    }

    /// Whether a code could be mailed to an address now; nothing is.
    pub(super) fn has_room_for(&self, to: &str, now: Now) -> Result<(), Fault> {
        let expires_at = now.unix_secs().saturating_add(CODE_SECS);
        let message = mail(to, "code", "Your code", "Your code".to_owned(), expires_at)?;
        self.means.outbox.check(&message, now).map_err(not_taken)
    }

    /// Whether another mail may be sent: `send_limit` for each address of mail, whether an account has it or not. Counted before
    /// it is sent.
    pub(super) async fn may_send(&self, folded: &str, now: Now) -> Result<bool, Fault> {
        let (most, period) = self.authority.send_limit;
        let key = count_key(self.store(), folded);
        let secs = now.unix_secs();
        for _ in 0..8 {
            let row: Option<Versioned<Vec<u64>>> = self.store().get(Table::Sent, &key, now).await?;
            let (version, mut times) = row.map_or((0, Vec::new()), |row| (row.version, row.value));
            times.retain(|time| secs < time.saturating_add(period.as_secs()));
            if times.len() >= most.get() as usize {
                return Ok(false);
            }
            times.push(secs);
            let until = secs.saturating_add(period.as_secs());
            match self.store().commit(Batch::new().update(Table::Sent, &key, version, &times, Some(until)), now).await {
                Ok(()) => return Ok(true),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(false)
    }
}

/// The key of how many mails were sent to an address.
pub(super) fn count_key(store: &Store, folded: &str) -> String {
    format!("m:{}", store.index("mails to", &[folded.as_bytes()]))
}

fn not_taken(fault: EnqueueFault) -> Fault {
    match fault {
        EnqueueFault::Full => Fault::Store(StoreFault::Busy),
        other @ (EnqueueFault::Unconfigured
        | EnqueueFault::Address
        | EnqueueFault::Expired
        | EnqueueFault::Content(_)) => Fault::Store(StoreFault::Unavailable(other.to_string())),
    }
}

fn mail(to: &str, kind: &str, subject: &str, text: String, expires_at: u64) -> Result<Message, Fault> {
    Ok(Message {
        id: number()?,
        channel: Channel::Mail { to: to.to_owned() },
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        text,
        data: serde_json::Value::Null,
        expires_at,
    })
}

fn number() -> Result<String, Fault> {
    new_id().ok_or_else(|| Fault::Store(StoreFault::Unavailable("the system gives no randomness".to_owned())))
}
