//! Who asks for something: the person, whose proof it would be, and what their credential says already.

use std::{fmt, net::IpAddr, sync::Arc};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{Actor, Authority, Call, Fault, Holder, Owner};
use crate::{
    config::{ClaimPath, FirstFactor},
    policy::{Assurance, Categories, Category, Factor, Principal},
};

/// Who asks. It can be kept in a row, as a page's session does; it holds no credential, only the hash of one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Caller {
    /// The issuer's identifier.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// Whose a proof is that is shown.
    pub holder: [u8; 32],
    /// What tells this credential from others, for counting guesses.
    pub credential: [u8; 32],
    /// The categories of what the person has shown to whoever vouches for them.
    pub first: Shown,
    /// The person's mail address, as the credential says.
    pub mail: Option<String>,
    /// Where codes are sent, as the credential says, by factor.
    pub addresses: Vec<(String, String)>,
}

/// What the person has shown already.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Shown {
    /// Categories, by name.
    pub categories: Vec<String>,
    /// What it is called in `amr`.
    pub amr: Vec<String>,
    /// Factors that were shown to this authority, by name.
    pub factors: Vec<String>,
    /// When, as the credential says, in seconds since the epoch.
    #[serde(default)]
    pub at: Option<f64>,
    /// Whether it was a moment ago, in the course of what a proof is made for.
    #[serde(default)]
    pub is_now: bool,
}

impl Shown {
    /// The categories.
    pub fn categories(&self) -> Categories {
        let is_named = |category: &Category| self.categories.iter().any(|name| name == category.name());
        Category::ALL.into_iter().filter(is_named).collect()
    }

    /// What the policy would weigh of it.
    pub(super) fn assurance(&self) -> Assurance {
        Assurance {
            amr: self.amr.iter().map(|method| Arc::from(method.as_str())).collect(),
            auth_time: self.at,
            factors: self.factors.iter().filter_map(|name| Factor::from_name(name)).collect(),
            ..Assurance::default()
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Where a call came from.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// `X-Request-Id`.
    pub request_id: &'a str,
}

impl<'a> Way<'a> {
    /// Where a call came from.
    pub fn of(call: &Call<'a>) -> Self {
        Self { client: call.client, request_id: call.request_id }
    }
}

impl Caller {
    /// The person.
    pub fn owner(&self) -> Owner {
        Owner { issuer: self.issuer.as_str().into(), subject: self.subject.as_str().into() }
    }

    /// Whose a proof is that is shown.
    pub fn holder(&self) -> Holder {
        Holder(self.holder)
    }

    /// The address that the credential names for a factor.
    pub(super) fn address(&self, factor: Factor) -> Option<&str> {
        self.addresses.iter().find(|(name, _)| name == factor.name()).map(|(_, address)| address.as_str())
    }
}

/// Who did something, for whoever listens.
pub(super) fn actor<'a>(owner: &'a Owner, way: Way<'a>) -> Actor<'a> {
    Actor { owner, operator: None, client: Some(way.client), request_id: Some(way.request_id) }
}

impl Authority {
    /// Whether the authority serves whoever vouches for a caller.
    pub fn serves(&self, principal: &Principal) -> bool {
        let issuers = &self.config().issuers;
        issuers.is_empty() || issuers.contains(&principal.issuer)
    }

    /// Who asks, by the credential that came with the call. `None`: nobody whom the authority serves, or nobody in
    /// particular.
    pub fn caller(&self, principal: &Principal) -> Option<Caller> {
        if !self.serves(principal) {
            return None;
        }
        let config = self.config();
        let owner = Owner::of(principal)?;
        let holder = Holder::of(principal, config.elevation_by)?;
        let claim = |path: &ClaimPath| find(path, &principal.claims)?.as_str().map(str::to_owned);
        let sent = [(Factor::Email, &config.email), (Factor::Webhook, &config.webhook), (Factor::Push, &config.push)];
        let addresses = sent.into_iter().filter_map(|(factor, sent)| {
            let address = claim(sent.as_ref()?.claim.as_ref()?)?;
            is_address(&address).then(|| (factor.name().to_owned(), address))
        });
        Some(Caller {
            issuer: owner.issuer.as_ref().into(),
            subject: owner.subject.as_ref().into(),
            holder: holder.0,
            credential: principal.marks.fingerprint.unwrap_or_else(|| sha256(principal.subject.as_bytes())),
            first: shown(principal, config.first_factor),
            mail: config.notices.email_claim.as_ref().and_then(claim).filter(|mail| is_address(mail)),
            addresses: addresses.collect(),
        })
    }

    /// The caller of a call that needs one.
    pub fn caller_of(&self, call: &Call<'_>) -> Result<Caller, Fault> {
        let principal = call.principal.ok_or(Fault::Anonymous)?;
        // Whom the authority does not serve is told no more than whoever has no factor.
        self.caller(principal).ok_or(Fault::Proof)
    }
}

fn find<'c>(path: &ClaimPath, claims: &'c serde_json::Value) -> Option<&'c serde_json::Value> {
    match path {
        ClaimPath::Name(name) => claims.get(&**name),
        ClaimPath::Pointer(pointer) => claims.pointer(pointer),
    }
}

/// What goes into a header of a mail, or to a webhook: bounded, and of one line.
pub(super) fn is_address(text: &str) -> bool {
    (1..=254).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What is known of how the person authenticated (RFC 8176 §2).
fn shown(principal: &Principal, first: FirstFactor) -> Shown {
    let assurance = &principal.assurance;
    let mut categories = Categories::NONE;
    for method in &assurance.amr {
        let category = match &**method {
            "pwd" | "pin" | "kba" => Category::Knowledge,
            "face" | "fpt" | "iris" | "retina" | "vbm" => Category::Inherence,
            "hwk" | "swk" | "pop" | "sc" | "otp" | "sms" | "tel" | "mca" => Category::Possession,
            _ => continue,
        };
        categories = categories.with(category);
    }
    categories = assurance.factors.iter().fold(categories, |categories, factor| categories.with(factor.category()));
    if categories == Categories::NONE && assurance.amr.is_empty() && first == FirstFactor::Knowledge {
        categories = categories.with(Category::Knowledge);
    }
    let names = Category::ALL.into_iter().filter(|category| categories.contains(*category));
    Shown {
        categories: names.map(|category| category.name().to_owned()).collect(),
        amr: assurance.amr.iter().map(|method| method.as_ref().to_owned()).collect(),
        factors: assurance.factors.iter().map(|factor| factor.name().to_owned()).collect(),
        at: assurance.auth_time.filter(|at| at.is_finite()),
        is_now: false,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
