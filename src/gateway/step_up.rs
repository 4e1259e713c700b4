//! Between deciding and enforcing: where a request falls short of nothing but assurance, what came with it to prove more is
//! looked at (a grant, else a code), and it is judged again, once.
//!
//! ```text
//!   judge ── allowed ───────────────────────────────────────────────> permit
//!     └ refused ── for another reason, or nothing came ─────────────> refusal
//!         └ Stepgate-Grant ── ours? the holder's? for this request? ─┐
//!         └ Stepgate-OTP ──── the authority looks at it, and uses it ┴> judge again
//! ```
//! What came is never looked at where it is not needed: a code that was not looked at is not used, and a grant that the permit
//! does not rest on is not spent. Nor is a code that others could read on its way here.

use std::sync::Arc;

use http::HeaderValue;

use super::{
    Enforcement, Gateway, Refusal,
    evidence::is_confidential,
    forms::HeldForm,
    inbound::{Inbound, SoleField},
};
use crate::{
    authority::{Authority, Grant, GrantBinding, Target, Way},
    body::{ConnectionInfo, RequestBody},
    clock::Now,
    policy::{Challenge, Credential, Decision, Denial, Evidence, Permit, Principal, Reason, SecondFactor, decide},
    runtime::Snapshot,
};

/// Seconds after which the authority's store may be there again.
const RETRY_AFTER_SECS: u64 = 5;

/// A grant that came with a request and was found good for it.
pub(super) struct UsedGrant<'s> {
    pub(super) authority: &'s Authority,
    pub(super) grant: Grant,
}

/// What came of a judgement.
pub(super) struct Judged<'s> {
    pub(super) permit: Permit,
    /// To be used up before anything is forwarded.
    pub(super) used: Option<UsedGrant<'s>>,
}

/// A request that is judged, and once more when something else was proved.
pub(super) trait Case {
    /// Its head.
    fn inbound(&self) -> &Inbound;

    /// Its one moment.
    fn now(&self) -> Now;

    /// Judges it.
    fn judge(&self, evidence: &Evidence) -> Result<Permit, Refusal>;

    /// A refusal that stays whatever a code proves: it asks for a grant, say. A code is used by being looked at, so one that could not
    /// help is left alone.
    fn beyond_codes(&self, evidence: &Evidence) -> Option<Refusal>;

    /// The request as a grant may be bound to it, by its effective method.
    fn binding(&self, body: &[u8]) -> Result<GrantBinding, Refusal>;
}

/// A request whose proofs are looked at.
struct Proving<'a, 's, C> {
    authority: &'s Authority,
    case: &'a C,
    principal: &'a Arc<Principal>,
}

impl From<Permit> for Judged<'_> {
    fn from(permit: Permit) -> Self {
        Self { permit, used: None }
    }
}

/// Whether anything came with a refused request that could prove what it lacks.
pub(super) fn may_help(snapshot: &Snapshot, inbound: &Inbound, refusal: &Refusal) -> bool {
    snapshot.authority.is_some() && inbound.shown.is_some() && matches!(refusal.challenge, Challenge::StepUp(_))
}

impl Gateway {
    /// Looks at what came with a request that was refused for want of assurance, and judges it again. `form` is its body, where
    /// that was read before; where it is read here, it is held there.
    pub(super) async fn prove<'s, C: Case>(
        &'s self,
        snapshot: &'s Snapshot,
        refusal: Refusal,
        case: &C,
        info: &ConnectionInfo,
        evidence: &mut Evidence,
        (body, form): (&mut RequestBody, &mut Option<Box<HeldForm<'s>>>),
    ) -> Result<Judged<'s>, Refusal> {
        let (Some(authority), Some(shown), Challenge::StepUp(_), Credential::Valid(principal)) =
            (&snapshot.authority, &case.inbound().shown, &refusal.challenge, &evidence.credential)
        else {
            return Err(refusal);
        };
        let proving = Proving { authority, case, principal };
        let (second, used) = match (&shown.grant, &shown.code) {
            (SoleField::One(grant), _) => {
                let used = self.read_grant(&proving, grant, body, form).await?;
                (used.grant.proof.clone(), Some(used))
            }
            (SoleField::Several, _) => return Err(Refusal::of(Reason::GrantInvalid)),
            (SoleField::Absent, SoleField::One(code)) => {
                if let Some(refusal) = case.beyond_codes(evidence) {
                    return Err(refusal);
                }
                // As at the authority's own endpoints: a client that sends codes where others read them is told so at once.
                if !is_confidential(info) && !authority.config().danger_cleartext {
                    let said = Some("A code is taken over TLS alone, and this request came without.");
                    let refusal = Refusal::of(Reason::CodeRefused).because("the code came in the clear");
                    return Err(Refusal { said, ..refusal });
                }
                (proving.code(code).await?, None)
            }
            (SoleField::Absent, SoleField::Several) => return Err(Refusal::of(Reason::CodeRefused)),
            (SoleField::Absent, SoleField::Absent) => return Err(refusal),
        };
        evidence.second_factors.push(second);
        case.judge(evidence).map(|permit| Judged { permit, used })
    }

    /// Reads a grant, and the request's body where it is bound to one.
    async fn read_grant<'s, C: Case>(
        &'s self,
        proving: &Proving<'_, 's, C>,
        text: &HeaderValue,
        body: &mut RequestBody,
        form: &mut Option<Box<HeldForm<'s>>>,
    ) -> Result<UsedGrant<'s>, Refusal> {
        let Proving { authority, case, principal } = *proving;
        let grant = authority.read_grant(text.as_bytes(), principal, case.now()).map_err(refusal)?;
        if grant.wants_body() {
            let held = match form {
                Some(held) => held,
                None => {
                    let max = authority.config().grant_body_bytes;
                    form.insert(Box::new(self.forms.read(body, case.inbound().origin.client, max).await?))
                }
            };
            if !grant.fits(&case.binding(held.content())?) {
                return Err(Refusal::of(Reason::GrantInvalid).because("the grant is bound to another request"));
            }
        }
        Ok(UsedGrant { authority, grant })
    }
}

impl<C: Case> Proving<'_, '_, C> {
    async fn code(&self, code: &HeaderValue) -> Result<Arc<SecondFactor>, Refusal> {
        let inbound = self.case.inbound();
        let way = Way { client: inbound.origin.client, request_id: inbound.request_id.as_str() };
        let proved = self.authority.prove_in_request(self.principal, way, code.as_bytes(), self.case.now()).await;
        proved.map(Arc::new).map_err(refusal)
    }
}

impl Case for Enforcement<'_> {
    fn inbound(&self) -> &Inbound {
        self.inbound
    }

    fn now(&self) -> Now {
        self.now
    }

    /// Judges a request by every route that it may be for; the strictest wins. That more proof is needed is said only where
    /// nothing else is wrong by any of them: a code is used by being looked at.
    fn judge(&self, evidence: &Evidence) -> Result<Permit, Refusal> {
        let (mut permit, mut short) = (None::<Permit>, None::<Denial>);
        for (route, method) in self.matched.ways() {
            match self.facts(route, method, evidence, |facts| decide(&route.policy, facts)) {
                Decision::Allow(next) => {
                    permit = Some(match permit {
                        Some(before) => before.and(next),
                        None => next,
                    });
                }
                Decision::Deny(denial) if matches!(denial.challenge, Challenge::StepUp(_)) => {
                    short.get_or_insert(denial);
                }
                Decision::Deny(denial) => return Err(denial.into()),
            }
        }
        if let Some(short) = short {
            return Err(short.into());
        }
        permit.ok_or_else(|| Refusal::of(Reason::RouteNotFound))
    }

    /// The first of the routes that it may be for which does.
    fn beyond_codes(&self, evidence: &Evidence) -> Option<Refusal> {
        self.matched.ways().find_map(|(route, method)| {
            match self.facts(route, method, evidence, |facts| decide(&route.policy, facts)) {
                Decision::Allow(_) => None,
                Decision::Deny(denial) => Some(Refusal::from(denial)).filter(Refusal::is_beyond_codes),
            }
        })
    }

    fn binding(&self, body: &[u8]) -> Result<GrantBinding, Refusal> {
        let Enforcement { inbound, path, matched, .. } = *self;
        let Some(method) = matched.bindable_method() else {
            let refusal = Refusal::of(Reason::GrantInvalid);
            return Err(refusal.because("no grant for one request fits this override"));
        };
        Ok(GrantBinding {
            method: method.clone(),
            target: Target::new(&inbound.site.authority, path, inbound.query()),
            body: GrantBinding::digest(body),
        })
    }
}

impl Enforcement<'_> {
    /// What a request is refused for by what is known of it so far; `None` where it is allowed. For `explain`, which proves nothing.
    pub fn refusal(&self, evidence: &Evidence) -> Option<Refusal> {
        self.judge(evidence).err()
    }
}

impl Refusal {
    /// Whether no code could mend it.
    pub(super) fn is_beyond_codes(&self) -> bool {
        !matches!(&self.challenge, Challenge::StepUp(step_up) if !step_up.grant)
    }
}

/// What the authority refused.
pub(super) fn refusal(reason: Reason) -> Refusal {
    let retry_after = (reason == Reason::AuthorityUnavailable).then_some(RETRY_AFTER_SECS);
    Refusal { retry_after, ..Refusal::of(reason) }
}
