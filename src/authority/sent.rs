//! Codes that are sent, and approvals on another device: how many, where to, and what is kept of them.
//!
//! A code is six random digits. What is kept is an HMAC by the store's own key, within a ceremony's sealed row: for the
//! ceremony's holder alone, a few looks, a few minutes, once. An approval is asked for with three numbers, of which the
//! caller is shown one: whoever approves without having asked does not know which.

use serde::{Deserialize, Serialize};
use serde_json::json;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{Authority, Caller, Fault, Purpose, Way, random};
use crate::{
    clock::Now,
    config::SentCode,
    notify::{Channel, Message},
    policy::Factor,
    store::{Batch, StoreFault, Table},
};

/// What the keys of approvals begin with.
pub(super) const APPROVALS: &str = "push/";

/// The key of how many codes were sent to somebody.
pub(super) fn count_key(owner_key: &str) -> String {
    format!("count/{owner_key}")
}

/// What a ceremony knows of a code that was sent.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SentState {
    /// The HMAC of the code.
    tag: String,
    /// Until when it is good, in seconds since the epoch.
    until: u64,
    /// The factor that it was sent by; empty while one is being enrolled.
    pub(super) factor_id: String,
    /// Where it went.
    pub(super) address: String,
}

/// What a ceremony knows of an approval that was asked for.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PushState {
    /// The key of the approval's row.
    row: String,
    pub(super) factor_id: String,
    pub(super) device: String,
}

/// An approval that was asked for: a row of `Table::Sent`, found by whoever got the message.
#[derive(Clone, Serialize, Deserialize)]
struct Approval {
    number: String,
    numbers: Vec<String>,
    details: PushDetails,
    decided: Option<bool>,
}

/// What whoever approves is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushDetails {
    /// The issuer's identifier.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// What is asked for: a level, or a word.
    pub what: String,
    /// The address that it is asked from.
    pub client: String,
    /// When, in seconds since the epoch.
    pub at: u64,
}

/// What whoever approves chooses from.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct PushShown {
    /// What is asked for.
    pub details: PushDetails,
    /// The numbers to choose from.
    pub numbers: Vec<String>,
}

/// When codes were sent to somebody.
#[derive(Default, Serialize, Deserialize)]
struct Sendings(Vec<u64>);

/// How a code is sent by a factor.
struct Letter<'a> {
    factor: Factor,
    sent: &'a SentCode,
    address: &'a str,
}

impl Authority {
    /// How a factor sends, if the configuration has it.
    pub(super) fn sender(&self, factor: Factor) -> Option<&SentCode> {
        let config = self.config();
        match factor {
            Factor::Email => config.email.as_ref(),
            Factor::Webhook => config.webhook.as_ref(),
            Factor::Push => config.push.as_ref(),
            Factor::Password | Factor::Passkey | Factor::Totp | Factor::Recovery => None,
        }
    }

    /// Counts a sending, in the commit that sends.
    async fn count_sending(&self, batch: Batch, caller: &Caller, factor: Factor, now: Now) -> Result<Batch, Fault> {
        let (most, period) = self.config().send_limit;
        let (secs, period) = (now.unix_secs(), period.as_secs().max(1));
        let key = count_key(&caller.owner().key(self.store()));
        let row = self.store().get::<Sendings>(Table::Sent, &key, now).await?;
        let (version, mut sendings) = row.map_or((0, Sendings::default()), |row| (row.version, row.value));
        // Of a clock that was ahead the sendings count from now on.
        sendings.0.iter_mut().for_each(|at| *at = (*at).min(secs));
        sendings.0.retain(|at| secs - at < period);
        if sendings.0.len() >= usize::try_from(most.get()).unwrap_or(usize::MAX) {
            self.core.observer.sent(factor, false);
            let first = sendings.0.iter().min().copied().unwrap_or(secs);
            return Err(Fault::Sending((first + period).saturating_sub(secs).max(1)));
        }
        sendings.0.push(secs);
        Ok(batch.update(Table::Sent, &key, version, &sendings, Some(secs + period)))
    }

    fn code_tag(&self, caller: &Caller, ceremony: &str, code: &str) -> String {
        self.store().index("sent code", &[&caller.holder, ceremony.as_bytes(), code.as_bytes()])
    }

    /// Adds a code to a commit, for a ceremony of this number.
    pub(super) async fn send_code(
        &self,
        batch: Batch,
        caller: &Caller,
        (factor, factor_id, address): (Factor, &str, &str),
        ceremony: &str,
        way: Way<'_>,
        now: Now,
    ) -> Result<(Batch, SentState), Fault> {
        let sent = self.sender(factor).ok_or(Fault::Call("no codes are sent this way"))?;
        let batch = self.count_sending(batch, caller, factor, now).await?;
        let code = random::digits()?;
        let until = now.unix_secs().saturating_add(sent.ttl.as_secs());
        let letter = Letter { factor, sent, address };
        let message = self.letter(&letter, caller, &code, until, way)?;
        let batch = self.core.state.outbox().enqueue(batch, message, now)?;
        let tag = self.code_tag(caller, ceremony, &code);
        Ok((batch, SentState { tag, until, factor_id: factor_id.to_owned(), address: address.to_owned() }))
    }

    fn letter(
        &self,
        letter: &Letter<'_>,
        caller: &Caller,
        code: &str,
        until: u64,
        way: Way<'_>,
    ) -> Result<Message, Fault> {
        let channel = match (&letter.sent.webhook, letter.factor) {
            (Some(name), _) => Channel::Webhook { name: name.to_string() },
            (None, _) => Channel::Mail { to: letter.address.to_owned() },
        };
        let host = self.config().url.host_str().unwrap_or_default();
        let minutes = letter.sent.ttl.as_secs().div_ceil(60);
        Ok(Message {
            id: random::id()?,
            channel,
            kind: "code".to_owned(),
            subject: format!("Your code for {host}"),
            text: format!(
                "{code}\n\nThis is your code for {host}. It is good for {minutes} minutes, and once.\n\
                 It was asked for from {}. Tell it to nobody; if you did not ask for it, somebody else has your password.\n",
                way.client
            ),
            data: json!({
                "to": letter.address, "code": code, "expires_at": until, "host": host,
                "issuer": caller.issuer, "subject": caller.subject, "client": way.client.to_string(),
            }),
            expires_at: until,
        })
    }

    /// Whether this is the code that was sent.
    pub(super) fn is_sent_code(
        &self,
        caller: &Caller,
        ceremony: &str,
        state: &SentState,
        code: &str,
        now: Now,
    ) -> bool {
        // Nobody's typing is longer, and what is hashed is bounded.
        let tag = self.code_tag(caller, ceremony, code.get(..16).unwrap_or(code));
        let is_equal = verify_slices_are_equal(tag.as_bytes(), state.tag.as_bytes()).is_ok();
        is_equal & (now.unix_secs() < state.until)
    }

    /// Adds a question to another device to a commit; the number that the caller is shown.
    pub(super) async fn ask_device(
        &self,
        batch: Batch,
        caller: &Caller,
        (factor_id, device): (&str, &str),
        purpose: Option<&Purpose>,
        way: Way<'_>,
        now: Now,
    ) -> Result<(Batch, PushState, String), Fault> {
        let sent = self.sender(Factor::Push).ok_or(Fault::Call("no approvals are asked for"))?;
        let batch = self.count_sending(batch, caller, Factor::Push, now).await?;
        let token = random::token()?;
        let row = self.approval_key(&token);
        let numbers = numbers()?;
        let chosen = usize::try_from(random::below(3)?).unwrap_or(0);
        let number = numbers.get(chosen).cloned().unwrap_or_default();
        let what = match purpose {
            Some(Purpose::StepUp { level } | Purpose::Grant { level }) => level.clone(),
            Some(Purpose::Manage) => "to change factors".to_owned(),
            Some(Purpose::SignIn) => "to sign in".to_owned(),
            None => "to enrol this device".to_owned(),
        };
        let until = now.unix_secs().saturating_add(sent.ttl.as_secs());
        let details = PushDetails {
            issuer: caller.issuer.clone(),
            subject: caller.subject.clone(),
            what,
            client: way.client.to_string(),
            at: now.unix_secs(),
        };
        let base = self.base_url();
        let message = Message {
            id: random::id()?,
            channel: Channel::Webhook { name: sent.webhook.as_ref().map(ToString::to_string).unwrap_or_default() },
            kind: "push".to_owned(),
            subject: String::new(),
            text: String::new(),
            data: json!({
                "to": device, "details": details, "numbers": numbers, "expires_at": until,
                "page": format!("{base}/push?token={token}"),
                // Not in the address: paths stand in access logs.
                "token": token, "decide": format!("{base}/api/v1/push"),
            }),
            expires_at: until,
        };
        let approval = Approval { number: number.clone(), numbers, details, decided: None };
        let batch = batch.insert(Table::Sent, &row, &approval, Some(until));
        let batch = self.core.state.outbox().enqueue(batch, message, now)?;
        self.core.observer.sent(Factor::Push, true);
        let state = PushState { row, factor_id: factor_id.to_owned(), device: device.to_owned() };
        Ok((batch, state, number))
    }

    fn approval_key(&self, token: &str) -> String {
        APPROVALS.to_owned() + &self.store().index("push", &[token.get(..64).unwrap_or(token).as_bytes()])
    }

    /// Whether an approval has come: `None`: not yet. One that was refused, or has expired, is a refusal. With the commit that
    /// uses it up.
    pub(super) async fn approval(&self, batch: Batch, state: &PushState, now: Now) -> Result<Option<Batch>, Fault> {
        let row = self.store().get::<Approval>(Table::Sent, &state.row, now).await?.ok_or(Fault::Proof)?;
        match row.value.decided {
            None => Ok(None),
            Some(false) => Err(Fault::Proof),
            Some(true) => Ok(Some(batch.delete(Table::Sent, &state.row, row.version))),
        }
    }

    /// What is asked, for whoever has the token of the message.
    pub async fn push_shown(&self, token: &str, now: Now) -> Result<PushShown, Fault> {
        let row = self.approval_key(token);
        let approval = self.store().get::<Approval>(Table::Sent, &row, now).await?.ok_or(Fault::Proof)?.value;
        if approval.decided.is_some() {
            return Err(Fault::Proof);
        }
        Ok(PushShown { details: approval.details, numbers: approval.numbers })
    }

    /// Decides: `Some` approves by choosing a number, `None` refuses. A wrong number is a refusal; a decision is made once.
    pub async fn push_decide(&self, token: &str, number: Option<&str>, now: Now) -> Result<(), Fault> {
        let key = self.approval_key(token);
        let row = self.store().get::<Approval>(Table::Sent, &key, now).await?.ok_or(Fault::Proof)?;
        let mut approval = row.value;
        if approval.decided.is_some() {
            return Err(Fault::Proof);
        }
        let is_right =
            number.map(|number| verify_slices_are_equal(number.as_bytes(), approval.number.as_bytes()).is_ok());
        approval.decided = Some(is_right == Some(true));
        let batch = Batch::new().update(Table::Sent, &key, row.version, &approval, row.expires_at);
        match self.store().commit(batch, now).await {
            Ok(()) if is_right == Some(false) => Err(Fault::Proof),
            Ok(()) => Ok(()),
            Err(StoreFault::Conflict) => Err(Fault::Proof),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Three numbers of two digits, each another.
fn numbers() -> Result<Vec<String>, Fault> {
    let mut numbers: Vec<String> = Vec::with_capacity(3);
    while numbers.len() < 3 {
        let number = format!("{:02}", random::below(100)?);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}
