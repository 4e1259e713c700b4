//! The channels of a configuration, ready to deliver.

use std::{collections::HashMap, sync::Arc};

use super::{Channel, Delivery, mail::Mailer, message::Waiting, webhook::Hook};
use crate::{
    client::MachineRoots,
    clock::Now,
    config::{self, Materials, Problem},
};

/// What mail is called in metrics and logs; no webhook has this name.
const MAIL: &str = "mail";

/// The channels of a configuration, ready to deliver.
#[derive(Debug, Default)]
pub struct Channels {
    mail: Option<Mailer>,
    webhooks: HashMap<Arc<str>, Hook>,
}

impl Channels {
    /// Makes ready what the configuration says, with its secrets and certificates; `roots` vouch where it names none.
    pub fn compile(
        notify: Option<&config::Notify>,
        materials: &dyn Materials,
        roots: &MachineRoots,
    ) -> Result<Self, Vec<Problem>> {
        let (mut channels, mut problems) = (Self::default(), Vec::new());
        let Some(notify) = notify else { return Ok(channels) };
        if let Some(mail) = &notify.mail {
            match Mailer::new(mail, materials, roots) {
                Ok(mailer) => channels.mail = Some(mailer),
                Err(problem) => problems.push(problem),
            }
        }
        for webhook in &notify.webhooks {
            match Hook::new(webhook, materials, roots) {
                Ok(hook) => {
                    channels.webhooks.insert(webhook.name.clone(), hook);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(channels) } else { Err(problems) }
    }

    /// Whether messages can be sent there.
    pub fn has(&self, channel: &Channel) -> bool {
        match channel {
            Channel::Mail { .. } => self.mail.is_some(),
            Channel::Webhook { name } => self.webhooks.contains_key(name.as_str()),
        }
    }

    /// What a channel is called in metrics: `none` if the configuration does not have it.
    pub(super) fn label<'a>(&self, lane: &'a str) -> &'a str {
        let known = if lane == MAIL { self.mail.is_some() } else { self.webhooks.contains_key(lane) };
        if known { lane } else { "none" }
    }

    /// The names of all channels, for metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.mail.iter().map(|_| MAIL).chain(self.webhooks.keys().map(|name| &**name))
    }

    /// Delivers a message, once.
    pub(super) async fn deliver(&self, waiting: &Waiting, now: Now) -> Delivery {
        let gone = || Delivery::Later("the configuration has no such channel".to_owned());
        match &waiting.message.channel {
            Channel::Mail { to } => match &self.mail {
                Some(mailer) => mailer.deliver(waiting, to).await,
                None => gone(),
            },
            Channel::Webhook { name } => match self.webhooks.get(name.as_str()) {
                Some(hook) => hook.deliver(waiting, now).await,
                None => gone(),
            },
        }
    }
}

/// The name that a channel's messages wait under.
pub(super) fn lane(channel: &Channel) -> Arc<str> {
    match channel {
        Channel::Mail { .. } => MAIL.into(),
        Channel::Webhook { name } => name.as_str().into(),
    }
}
