//! What people and systems are told of a deletion: by mail and by signed webhook, in the same commit as the change.
//!
//! A mail to the person has a link to the page that stops the deletion, and so has what goes to a plan's webhook, since that may be
//! what reaches the person. Operators and fixed addresses get the deletion's number, and nothing that names the person.

use serde_json::{Map, Value, json};

use super::{
    carry::{Known, fill},
    fault::Fault,
    life::Told,
    record::{Erasure, HoldKind, Outcome, State},
};
use crate::{
    clock::Now,
    config::{self, Recipient, Template, Terms},
    endpoint::At,
    notify::{Channel, EnqueueFault, Message, Outbox, line, new_id},
    store::{Batch, StoreFault},
};

/// For how long a notice is tried to be delivered, in seconds, if it is of no use for longer.
const NOTICE_SECS: u64 = 3 * 86_400;
/// And if it is.
const LONGEST_SECS: u64 = 30 * 86_400;

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
    /// Adds the notices of a change to its commit, and says how many could not be sent to whom they should have gone: to a channel that
    /// was removed, an address that is none. That never stops a change.
    ///
    /// # Errors
    /// When there is no room for them. What goes on towards a deletion then has to wait, so that nobody can have it done unnoticed by
    /// filling the outbox; what stops one is done all the same.
    pub(super) fn add(&self, mut batch: Batch, tale: &Tale<'_>, now: Now) -> Result<(Batch, usize), Fault> {
        let mut untold = 0;
        for told in tale.told.iter().copied().filter(|told| !is_told_otherwise(*told, tale.told)) {
            for (recipient, kind) in self.recipients(told, tale.terms) {
                let Some(channel) = channel(recipient, tale) else {
                    untold += 1;
                    continue;
                };
                let message = self.message(channel, kind, told, tale, now)?;
                match self.outbox.check(&message, now) {
                    Ok(()) => {}
                    Err(EnqueueFault::Full) if !is_stop(told) => return Err(Fault::Untold),
                    Err(_) => {
                        untold += 1;
                        continue;
                    }
                }
                // The outbox takes what it has just found good, but for a last place that another took.
                batch = self.outbox.enqueue(batch, message, now).map_err(|_| Fault::Untold)?;
            }
        }
        Ok((batch, untold))
    }

    /// Whom a change is told.
    fn recipients<'r>(&'r self, told: Told, terms: &'r Terms) -> impl Iterator<Item = (&'r Recipient, Reader)> {
        let (of_plan, of_operators) = audience(told);
        let plan = terms.notify.iter().filter(move |_| of_plan).map(|recipient| (recipient, Reader::of(recipient)));
        let operators = self.config.operators.iter().filter(move |_| of_operators);
        plan.chain(operators.map(|recipient| (recipient, Reader::Office)))
    }

    fn message(
        &self,
        channel: Channel,
        reader: Reader,
        told: Told,
        tale: &Tale<'_>,
        now: Now,
    ) -> Result<Message, StoreFault> {
        let none = || StoreFault::Unavailable("the system gives no randomness".to_owned());
        let link = link(self.config, &tale.erasure.id, tale.token);
        let at = now.unix_secs();
        Ok(Message {
            id: new_id().ok_or_else(none)?,
            channel,
            kind: kind(told).to_owned(),
            subject: subject(told).to_owned(),
            text: text(reader, told, tale, &link),
            data: data(reader, told, tale, &link, at),
            expires_at: expires_at(told, tale.erasure, at),
        })
    }
}

/// The address of the page that shows a deletion, and stops it. The token is in the query, which no log has.
pub(super) fn link(config: &config::Deletions, id: &str, token: &str) -> String {
    format!("{}{}/link/{id}?token={token}", config.url.origin().ascii_serialization(), config.path)
}

/// Who reads a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// The person: an address that a template makes.
    Person,
    /// A system of the plan.
    System,
    /// Somebody whose work it is: operators, a fixed address of the plan.
    Office,
}

impl Reader {
    fn of(recipient: &Recipient) -> Self {
        match recipient {
            Recipient::Webhook(_) => Self::System,
            Recipient::Mail(text) if Template::parse(text).is_ok_and(|text| text.fixed().is_none()) => Self::Person,
            Recipient::Mail(_) => Self::Office,
        }
    }
}

/// Whether those of the plan, and operators, are told. A person is not told of a legal hold: that may be what the law wants.
const fn audience(told: Told) -> (bool, bool) {
    match told {
        Told::Requested | Told::Reminder | Told::Cancelled | Told::Begun | Told::Erased => (true, false),
        Told::ApprovalWanted | Told::Parked | Told::StillThere | Told::Breaker => (false, true),
        Told::Approved | Told::Disputed => (true, true),
        Told::Held(_) | Told::Released(_) => (false, true),
    }
}

/// Whether a change is a stop, which is not put off for want of room.
const fn is_stop(told: Told) -> bool {
    match told {
        Told::Cancelled | Told::Disputed | Told::Held(_) | Told::Parked | Told::StillThere | Told::Breaker => true,
        Told::Requested
        | Told::ApprovalWanted
        | Told::Approved
        | Told::Reminder
        | Told::Begun
        | Told::Released(_)
        | Told::Erased => false,
    }
}

/// Whether another notice of the same change says it: who disputes a deletion cancels it, too.
fn is_told_otherwise(told: Told, all: &[Told]) -> bool {
    match told {
        Told::Cancelled | Told::Held(HoldKind::Dispute) => all.contains(&Told::Disputed),
        Told::Held(HoldKind::Breaker) => all.contains(&Told::Breaker),
        Told::Held(HoldKind::Approval) => all.contains(&Told::ApprovalWanted),
        Told::Held(HoldKind::Legal)
        | Told::Requested
        | Told::ApprovalWanted
        | Told::Approved
        | Told::Reminder
        | Told::Disputed
        | Told::Begun
        | Told::Parked
        | Told::StillThere
        | Told::Released(_)
        | Told::Breaker
        | Told::Erased => false,
    }
}

/// Where it goes; `None`: nowhere that there is.
fn channel(recipient: &Recipient, tale: &Tale<'_>) -> Option<Channel> {
    match recipient {
        Recipient::Webhook(name) => Some(Channel::Webhook { name: name.to_string() }),
        // An office is told whoever was taken out.
        Recipient::Mail(text) if Reader::of(recipient) == Reader::Office => {
            Some(Channel::Mail { to: text.to_string() })
        }
        Recipient::Mail(text) => Some(Channel::Mail { to: address(text, tale.erasure)? }),
    }
}

/// The address that a template makes; `None`: a value of it is missing, or fits nowhere.
fn address(text: &str, erasure: &Erasure) -> Option<String> {
    let personal = erasure.personal.as_ref()?;
    let values = Known { deletion: &erasure.id, subject: &personal.subject, values: &personal.values };
    fill::text(&Template::parse(text).ok()?, &values).ok()
}

/// The word for receivers.
const fn kind(told: Told) -> &'static str {
    match told {
        Told::Requested => "deletion_requested",
        Told::ApprovalWanted => "deletion_approval_wanted",
        Told::Approved => "deletion_approved",
        Told::Reminder => "deletion_reminder",
        Told::Cancelled => "deletion_cancelled",
        Told::Disputed => "deletion_disputed",
        Told::Begun => "deletion_begun",
        Told::Parked => "deletion_parked",
        Told::StillThere => "deletion_still_there",
        Told::Held(_) => "deletion_held",
        Told::Released(_) => "deletion_released",
        Told::Breaker => "deletion_breaker",
        Told::Erased => "deletion_erased",
    }
}

/// The subject line.
const fn subject(told: Told) -> &'static str {
    match told {
        Told::Requested => "A deletion of your data was asked for",
        Told::ApprovalWanted => "A deletion waits to be approved",
        Told::Approved => "A deletion was approved",
        Told::Reminder => "Your data is going to be deleted soon",
        Told::Cancelled => "The deletion was cancelled",
        Told::Disputed => "A deletion was stopped: somebody says that it was not them",
        Told::Begun => "Your data is being deleted",
        Told::Parked => "A deletion waits for a person",
        Told::StillThere => "Data that should be gone is there",
        Told::Held(_) => "A deletion was put on hold",
        Told::Released(_) => "A deletion may go on",
        Told::Breaker => "Too many deletions: they are held",
        Told::Erased => "Your data was deleted",
    }
}

/// What happened, in a sentence or two.
fn what(told: Told, tale: &Tale<'_>) -> String {
    let when = |secs: u64| At::secs(secs).text;
    let asked = || when(tale.erasure.requested_at);
    let until = match tale.erasure.state {
        State::Held { until } => Some(until),
        State::CarryingOut | State::Verifying | State::Scrubbing | State::Erased | State::Cancelled => None,
    };
    match told {
        Told::Requested => format!("The following deletion was asked for on {}. {}", asked(), begins(tale, until)),
        Told::ApprovalWanted => format!(
            "A deletion was asked for on {}. It waits until a second person approves it: not whoever asked for it.",
            asked()
        ),
        Told::Approved => {
            format!("The deletion that was asked for on {} was approved by a second person. {}", asked(), begins(tale, until))
        }
        Told::Reminder => format!("The following deletion was asked for on {}. {}", asked(), begins(tale, until)),
        Told::Cancelled => {
            format!("The deletion that was asked for on {} was cancelled. Nothing was deleted.", asked())
        }
        Told::Disputed if tale.erasure.state == State::Cancelled => format!(
            "Somebody with the link of a notice, or signed in, says that it was not them who asked for the deletion of {}. It was \
             cancelled, and nothing was deleted. No further one can be asked for until whoever runs the service lifts that.",
            asked()
        ),
        Told::Disputed => format!(
            "Somebody with the link of a notice, or signed in, says that it was not them who asked for the deletion of {}. It had begun: \
             what was deleted until then cannot be brought back here. Nothing further is deleted, and no further deletion can be asked \
             for, until whoever runs the service lifts that.",
            asked()
        ),
        Told::Begun => format!(
            "The deletion that was asked for on {} has begun. It is looked what is there; once the first request that deletes is sent, it cannot be cancelled any more. Afterwards it is looked, several times, \
             whether all is gone.",
            asked()
        ),
        Told::Parked => {
            format!("A deletion that was asked for on {} cannot go on by itself, and waits for a person.", asked())
        }
        Told::StillThere => format!(
            "A probe saw data that should be gone, after all steps of a deletion that was asked for on {}. It waits for a person.",
            asked()
        ),
        Told::Held(kind) => format!(
            "A deletion that was asked for on {} was put on hold ({}). Nothing goes on until that is lifted.",
            asked(),
            kind.name()
        ),
        Told::Released(kind) => {
            format!("A hold ({}) on a deletion that was asked for on {} was lifted.", kind.name(), asked())
        }
        Told::Breaker => "More deletions were asked for than the configuration lets through. This one and every further one are held: look \
                          at them, then reset the breaker and release those that are meant."
            .to_owned(),
        Told::Erased => format!(
            "The deletion that was asked for on {} is done, and it was verified that the data is gone.",
            asked()
        ),
    }
}

fn begins(tale: &Tale<'_>, until: Option<u64>) -> String {
    let second = tale.erasure.is_held_by(HoldKind::Approval);
    match until {
        // What has no grace begins as soon as it may.
        Some(until) if tale.terms.grace_secs.is_some_and(|grace| grace > 0) => {
            let approved = if second { ", and not before a second person has approved it" } else { "" };
            format!("Nothing is deleted before {}{approved}; until then it can be stopped.", At::secs(until).text)
        }
        _ if second => "It begins as soon as a second person has approved it; until then it can be stopped.".to_owned(),
        _ => "It begins at once.".to_owned(),
    }
}

/// The text of a mail.
fn text(reader: Reader, told: Told, tale: &Tale<'_>, link: &str) -> String {
    let mut text = format!("{}\n", what(told, tale));
    if reader == Reader::Person {
        if matches!(told, Told::Requested | Told::Reminder | Told::Begun | Told::Erased) {
            push_scope(&mut text, tale.terms);
        }
        if can_be_stopped(told) {
            text.push_str(
                "\nIf this was not you, open this page and press the button there. Opening it changes nothing; the button stops the \
                 deletion, and lets nobody ask for another until whoever runs the service has looked at it:\n\n",
            );
            text.push_str(link);
            text.push('\n');
            if matches!(told, Told::Requested | Told::Approved | Told::Reminder) {
                text.push_str("\nIf you have changed your mind, cancel the deletion where you asked for it.\n");
            }
        } else {
            text.push_str("\nIf you know nothing of it, tell whoever runs the service at once.\n");
        }
    } else {
        for waits in waiting(tale) {
            text.push_str(&format!("\n- {}: {}", line(waits.name), waits.why));
        }
        text.push_str(&format!(
            "\nPlan: {}\nLook at it: stepgate erasures show {}\n",
            line(&tale.erasure.plan),
            tale.erasure.id
        ));
    }
    text.push_str(&format!("\nNumber of the deletion: {}\n", tale.erasure.id));
    text
}

fn push_scope(text: &mut String, terms: &Terms) {
    text.push_str(&format!("\n{}\n\nWhat goes:\n", line(&terms.scope.summary)));
    for item in &terms.scope.erased {
        text.push_str(&format!("- {}\n", line(item)));
    }
    if !terms.scope.kept.is_empty() {
        text.push_str("\nWhat stays:\n");
    }
    for kept in &terms.scope.kept {
        text.push_str(&format!("- {}: {}, {}\n", line(&kept.what), line(&kept.why), line(&kept.how_long)));
    }
}

/// Whether there is anything for the link to stop.
const fn can_be_stopped(told: Told) -> bool {
    match told {
        Told::Requested | Told::ApprovalWanted | Told::Approved | Told::Reminder | Told::Begun => true,
        Told::Cancelled
        | Told::Disputed
        | Told::Parked
        | Told::StillThere
        | Told::Held(_)
        | Told::Released(_)
        | Told::Breaker
        | Told::Erased => false,
    }
}

/// A step or probe that waits for a person.
struct Waits<'a> {
    what: &'static str,
    name: &'a str,
    why: &'static str,
}

fn waiting<'a>(tale: &Tale<'a>) -> Vec<Waits<'a>> {
    let steps = tale.terms.steps.iter().zip(&tale.erasure.steps).filter_map(|(step, state)| match state.outcome {
        Outcome::Parked { why, .. } => Some(Waits { what: "step", name: &step.call.name, why: why.name() }),
        Outcome::Waiting | Outcome::Sent | Outcome::Done { .. } | Outcome::Accepted { .. } => None,
    });
    let probes = tale.terms.probes.iter().zip(&tale.erasure.probes);
    let probes = probes.filter_map(|(probe, state)| {
        state.parked.map(|(why, _)| Waits { what: "probe", name: &probe.call.name, why: why.name() })
    });
    steps.chain(probes).collect()
}

/// The content of a webhook.
fn data(reader: Reader, told: Told, tale: &Tale<'_>, link: &str, at: u64) -> Value {
    let erasure = tale.erasure;
    let mut data = Map::new();
    data.insert("deletion".to_owned(), json!(erasure.id));
    data.insert("plan".to_owned(), json!(erasure.plan));
    data.insert("state".to_owned(), json!(erasure.state.name()));
    data.insert("at".to_owned(), json!(at));
    data.insert("requested_at".to_owned(), json!(erasure.requested_at));
    if let State::Held { until } = erasure.state {
        data.insert("held_until".to_owned(), json!(until));
    }
    if let Some(by) = erasure.erased_by(tale.terms) {
        data.insert("erased_by".to_owned(), json!(by));
    }
    if let Some(event) = erasure.events.last() {
        data.insert("by".to_owned(), json!(event.by.kind()));
    }
    if let Told::Held(kind) | Told::Released(kind) = told {
        data.insert("hold".to_owned(), json!(kind.name()));
    }
    if reader == Reader::System {
        data.insert("issuer".to_owned(), json!(erasure.whose.issuer_url));
        if let Some(personal) = &erasure.personal {
            data.insert("subject".to_owned(), json!(personal.subject));
        }
        if can_be_stopped(told) {
            data.insert("link".to_owned(), json!(link));
        }
    } else {
        let waiting = waiting(tale);
        if !waiting.is_empty() {
            let waiting: Vec<Value> =
                waiting.iter().map(|waits| json!({waits.what: waits.name, "why": waits.why})).collect();
            data.insert("waiting".to_owned(), json!(waiting));
        }
    }
    Value::Object(data)
}

/// Until when it is of use: what tells of a deletion that can be stopped, until it begins.
fn expires_at(told: Told, erasure: &Erasure, at: u64) -> u64 {
    let least = at.saturating_add(NOTICE_SECS);
    match erasure.state {
        State::Held { until } if can_be_stopped(told) => until.clamp(least, at.saturating_add(LONGEST_SECS)),
        State::Held { .. }
        | State::CarryingOut
        | State::Verifying
        | State::Scrubbing
        | State::Erased
        | State::Cancelled => least,
    }
}
