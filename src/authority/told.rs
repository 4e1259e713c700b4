//! What people are told of their factors: by mail and by the operator's webhook, in the same commit as the change.

use serde_json::{Value, json};

use super::{Authority, Fault, Owner, Way, random};
use crate::{
    clock::Now,
    notify::{Channel, EnqueueFault, Message, line},
    store::{Batch, StoreFault},
};

/// For how long a notice is tried to be delivered, in seconds.
const NOTICE_SECS: u64 = 3 * 86_400;

/// What there is to tell.
pub(super) struct Notice<'a> {
    /// A word of a closed list, for receivers.
    pub(super) kind: &'static str,
    /// The subject line.
    pub(super) subject: &'static str,
    /// What happened, one sentence.
    pub(super) what: String,
    /// What happened, for programs.
    pub(super) data: Value,
    /// Where it came from, where it was a call.
    pub(super) way: Option<Way<'a>>,
}

impl From<EnqueueFault> for Fault {
    fn from(fault: EnqueueFault) -> Self {
        match fault {
            EnqueueFault::Full => Self::Store(StoreFault::Busy),
            EnqueueFault::Unconfigured => Self::Call("no code can be sent there"),
            EnqueueFault::Address => Self::Call("this is no address that mail can be sent to"),
            EnqueueFault::Expired | EnqueueFault::Content(_) => Self::Call("the message cannot be sent"),
        }
    }
}

impl Authority {
    /// Adds the notices of a change to its commit; without room for them the change is not made.
    pub(super) fn notices(
        &self,
        mut batch: Batch,
        owner: &Owner,
        mail: Option<&str>,
        notice: &Notice<'_>,
        now: Now,
    ) -> Result<Batch, Fault> {
        let mut data = json!({
            "issuer": &*owner.issuer, "subject": &*owner.subject, "at": now.unix_secs(), "change": notice.data,
        });
        let mut text =
            format!("{}\n\nSubject: {}\nIssuer: {}\n", line(&notice.what), line(&owner.subject), line(&owner.issuer));
        if let (Some(way), Some(data)) = (notice.way, data.as_object_mut()) {
            data.insert("client".to_owned(), way.client.to_string().into());
            data.insert("request_id".to_owned(), way.request_id.into());
            text.push_str(&format!("From: {}\n", way.client));
        }
        text.push_str("\nIf this was not you, tell whoever runs the service at once.\n");
        let webhook = self.config().notices.webhook.as_ref().map(|name| Channel::Webhook { name: name.to_string() });
        let mail = mail.map(|to| Channel::Mail { to: to.to_owned() });
        for channel in mail.into_iter().chain(webhook) {
            let message = Message {
                id: random::id()?,
                channel,
                kind: notice.kind.to_owned(),
                subject: notice.subject.to_owned(),
                text: text.clone(),
                data: data.clone(),
                expires_at: now.unix_secs() + NOTICE_SECS,
            };
            match self.core.state.outbox().check(&message, now) {
                // An address that the provider vouches for and that is none is not worth refusing the change for.
                Err(EnqueueFault::Address | EnqueueFault::Unconfigured) => continue,
                Ok(()) | Err(EnqueueFault::Full | EnqueueFault::Expired | EnqueueFault::Content(_)) => {}
            }
            batch = self.core.state.outbox().enqueue(batch, message, now)?;
        }
        Ok(batch)
    }

    /// Does a commit with messages, and has them delivered.
    pub(super) async fn commit_told(&self, batch: Batch, now: Now) -> Result<(), StoreFault> {
        self.store().commit(batch, now).await?;
        self.core.state.outbox().poke();
        Ok(())
    }
}

/// An address as others may see it: enough to be told from another.
pub(super) fn shortened(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((mailbox, domain)) => {
            let first: String = mailbox.chars().take(1).collect();
            format!("{first}…@{domain}")
        }
        None => {
            let count = address.chars().count();
            let last: String = address.chars().skip(count.saturating_sub(3)).collect();
            format!("…{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_by_its_ends_alone() {
        assert_eq!(shortened("anna.smith@mail.example"), "a…@mail.example");
        assert_eq!(shortened("+49 170 1234567"), "…567");
        assert_eq!(shortened(""), "…");
    }
}
