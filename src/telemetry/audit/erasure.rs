//! What happens in the life of an account deletion, as records: each event once, numbered, and durable before anybody goes on.
//!
//! An event is told again where a crash came between its record and the note of its place. The repetition says the same, and is
//! recognised by deletion and number: the first one counts. Whom it is about is committed to and not in the chain, as with attempts;
//! targets are templates, never what was put into them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disclosure::{Commitments, NoSalt};
use crate::telemetry::json::Object;

/// Where a record stands in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its number.
    pub seq: u64,
    /// Its hash, base64url.
    pub hash: Box<str>,
}

/// Who did something in the life of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureParty {
    /// The person whose data it is, with a credential of theirs.
    Owner,
    /// Somebody else with a credential: one who may ask for, cancel or approve other people's.
    Caller {
        /// Who vouches for them: the issuer's identifier.
        issuer_url: Arc<str>,
        /// Who they are.
        subject: Arc<str>,
    },
    /// An operator, by the name that they gave.
    Operator(Arc<str>),
    /// Whoever held the link of a notice.
    Link,
    /// The gateway, of itself.
    Gateway,
}

impl ErasureParty {
    /// Its name in records and certificates.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Caller { .. } => "caller",
            Self::Operator(_) => "operator",
            Self::Link => "link",
            Self::Gateway => "gateway",
        }
    }
}

/// A request to an upstream: a step, a probe or a lookup, as the terms have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureCall {
    /// Its name.
    pub name: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The method.
    pub method: Arc<str>,
    /// The target as the configuration writes it: a template, which names nobody.
    pub target: Arc<str>,
    /// How it was answered; `None`: it was not, or not yet.
    pub status: Option<u16>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
}

/// An event in the life of a deletion. The words are members of closed lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRecord {
    /// When it happened, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The deletion's number.
    pub id: Arc<str>,
    /// Its plan.
    pub plan: Arc<str>,
    /// The event's own number within the deletion, from 0, without a gap.
    pub number: u32,
    /// What happened.
    pub event: &'static str,
    /// A word more; empty: none.
    pub detail: &'static str,
    /// The request to an upstream that it is about.
    pub call: Option<ErasureCall>,
    /// Who did it.
    pub by: ErasureParty,
    /// Whose data it is, where the event names them, by issuer's identifier and subject: one that asks for a deletion does, no other.
    pub subject: Option<(Arc<str>, Arc<str>)>,
    /// Why, in somebody's own words, which may name anybody: committed to, and struck out with the person.
    pub reason: Option<Arc<str>>,
    /// `X-Request-Id` of the call that did it: the intent of the operation has the same.
    pub request_id: Option<Arc<str>>,
}

impl ErasureRecord {
    /// The bytes of all its strings.
    pub(super) fn weight(&self) -> usize {
        let call = self.call.iter().flat_map(|call| [&call.name, &call.upstream, &call.method, &call.target]);
        let by: [Option<&Arc<str>>; 2] = match &self.by {
            ErasureParty::Caller { issuer_url, subject } => [Some(issuer_url), Some(subject)],
            ErasureParty::Operator(name) => [Some(name), None],
            ErasureParty::Owner | ErasureParty::Link | ErasureParty::Gateway => [None, None],
        };
        let subject = self.subject.iter().flat_map(|(issuer_url, subject)| [issuer_url, subject]);
        let optional = [&self.reason, &self.request_id].into_iter().flatten();
        let strings = [&self.id, &self.plan].into_iter().chain(call).chain(by.into_iter().flatten());
        strings.chain(subject).chain(optional).map(|text| text.len()).sum()
    }

    pub(super) fn push(&self, line: &mut Object<'_>, commitments: &mut Commitments) -> Result<(), NoSalt> {
        line.string("erasure", &self.id);
        line.string("plan", &self.plan);
        line.number("number", u64::from(self.number));
        line.string("event", self.event);
        line.maybe("detail", Some(self.detail).filter(|detail| !detail.is_empty()));
        if let Some(call) = &self.call {
            let mut object = Object::open(line.member("call"));
            object.string("name", &call.name);
            object.string("upstream", &call.upstream);
            object.string("method", &call.method);
            object.string("target", &call.target);
            if let Some(status) = call.status {
                object.number("status", u64::from(status));
            }
            object.number("attempt", u64::from(call.attempt));
            object.close();
        }
        line.maybe("request_id", self.request_id.as_deref());
        let mut by = Object::open(line.member("by"));
        by.string("party", self.by.name());
        match &self.by {
            ErasureParty::Caller { issuer_url, subject } => {
                by.string("issuer_url", issuer_url);
                commitments.commit("caller", subject)?;
            }
            ErasureParty::Operator(name) => commitments.commit("operator", name)?,
            ErasureParty::Owner | ErasureParty::Link | ErasureParty::Gateway => {}
        }
        by.close();
        if let Some((issuer_url, subject)) = &self.subject {
            let mut who = Object::open(line.member("who"));
            who.string("issuer_url", issuer_url);
            who.close();
            commitments.commit("subject", subject)?;
        }
        if let Some(reason) = &self.reason {
            commitments.commit("reason", reason)?;
        }
        Ok(())
    }
}
