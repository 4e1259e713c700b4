//! What people and systems are told of a deletion: mail and webhooks, in the commit of the change.

use serde_json::json;

use super::{life::Told, record::Erasure};
use crate::{
    clock::Now,
    config::{self, Part, Placeholder, Recipient, Template, Terms},
    notify::{Channel, EnqueueFault, Message, Outbox, new_id},
    store::{Batch, StoreFault},
};

/// For how long a notice is tried to be delivered, in seconds.
const NOTICE_SECS: u64 = 3 * 86_400;

/// Tells of deletions.
pub(super) struct Teller<'a> {
    /// What the configuration says.
    pub(super) config: &'a config::Deletions,
    /// Where notices wait.
    pub(super) outbox: &'a Outbox,
}

/// A deletion, and what there is to tell of it.
pub(super) struct Tale<'a> {
    /// The deletion as it is now, before the person is taken out of it.
    pub(super) erasure: &'a Erasure,
    /// Its terms.
    pub(super) terms: &'a Terms,
    /// What happened.
    pub(super) told: &'a [Told],
    /// The token of its link.
    pub(super) token: &'a str,
}

impl Teller<'_> {
    /// Adds the notices of a change to its commit, and says how many have nowhere to go.
    pub(super) fn add(&self, mut batch: Batch, tale: &Tale<'_>, now: Now) -> Result<(Batch, usize), StoreFault> {
        let mut untold = 0;
        for told in tale.told {
            for recipient in tale.terms.notify.iter().chain(&self.config.operators) {
                let Some(message) = self.message(recipient, *told, tale, now) else {
                    untold += 1;
                    continue;
                };
                match self.outbox.check(&message, now) {
                    Ok(()) => batch = self.outbox.enqueue(batch, message, now).map_err(|_| StoreFault::Busy)?,
                    Err(EnqueueFault::Full) if *told == Told::Requested => return Err(StoreFault::Busy),
                    Err(_) => untold += 1,
                }
            }
        }
        Ok((batch, untold))
    }

    fn message(&self, recipient: &Recipient, told: Told, tale: &Tale<'_>, now: Now) -> Option<Message> {
        let Tale { erasure, token, .. } = tale;
        let channel = match recipient {
            Recipient::Webhook(name) => Channel::Webhook { name: name.to_string() },
            Recipient::Mail(to) => Channel::Mail { to: address(erasure, to)? },
        };
        let origin = self.config.url.origin().ascii_serialization();
        let link = format!("{origin}{}/link/{}?token={token}", self.config.path, erasure.id);
        let state = erasure.state.name();
        Some(Message {
            id: new_id()?,
            channel,
            kind: format!("deletion_{}", name(told)),
            subject: "Account deletion".to_owned(),
            text: format!("Deletion {}: {state}.\nThis was not you? {link}\n", erasure.id),
            data: json!({"deletion": erasure.id, "plan": erasure.plan, "state": state, "at": now.unix_secs()}),
            expires_at: now.unix_secs().saturating_add(NOTICE_SECS),
        })
    }
}

const fn name(told: Told) -> &'static str {
    match told {
        Told::Requested => "requested",
        Told::ApprovalWanted => "approval_wanted",
        Told::Approved => "approved",
        Told::Reminder => "reminder",
        Told::Cancelled => "cancelled",
        Told::Disputed => "disputed",
        Told::Begun => "begun",
        Told::Parked => "parked",
        Told::StillThere => "still_there",
        Told::Held(_) => "held",
        Told::Released(_) => "released",
        Told::Breaker => "breaker",
        Told::Erased => "erased",
    }
}

fn address(erasure: &Erasure, template: &str) -> Option<String> {
    let mut address = String::new();
    for part in Template::parse(template).ok()?.parts() {
        match part {
            Part::Text(text) => address.push_str(text),
            Part::Value(Placeholder::Deletion) => address.push_str(&erasure.id),
            Part::Value(Placeholder::Subject) => address.push_str(&erasure.personal.as_ref()?.subject),
            Part::Value(value) => {
                address.push_str(erasure.personal.as_ref()?.values.get(value.to_string().as_str())?);
            }
        }
    }
    Some(address)
}
