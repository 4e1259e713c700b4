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
    policy::{Challenge, Credential, Evidence, Permit, Principal, Reason, SecondFactor},
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

/// A request whose proofs are looked at.
struct Proving<'a, 's> {
    authority: &'s Authority,
    enforcement: &'a Enforcement<'a>,
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
    pub(super) async fn prove<'s>(
        &'s self,
        snapshot: &'s Snapshot,
        refusal: Refusal,
        enforcement: &Enforcement<'_>,
        info: &ConnectionInfo,
        evidence: &mut Evidence,
        (body, form): (&mut RequestBody, &mut Option<Box<HeldForm<'s>>>),
    ) -> Result<Judged<'s>, Refusal> {
        let (Some(authority), Some(shown), Challenge::StepUp(step_up), Credential::Valid(principal)) =
            (&snapshot.authority, &enforcement.inbound.shown, &refusal.challenge, &evidence.credential)
        else {
            return Err(refusal);
        };
        let proving = Proving { authority, enforcement, principal };
        let (second, used) = match (&shown.grant, &shown.code) {
            (SoleField::One(grant), _) => {
                let used = self.read_grant(&proving, grant, body, form).await?;
                (used.grant.proof.clone(), Some(used))
            }
            (SoleField::Several, _) => return Err(Refusal::of(Reason::GrantInvalid)),
            // A code is used by being looked at, and could not stand for a grant.
            (SoleField::Absent, SoleField::One(_)) if step_up.grant => return Err(refusal),
            // As at the authority's own endpoints: a client that sends codes where others read them is told so at once.
            (SoleField::Absent, SoleField::One(_))
                if !is_confidential(info) && !authority.config().danger_cleartext =>
            {
                let said = Some("A code is taken over TLS alone, and this request came without.");
                return Err(Refusal { said, ..Refusal::of(Reason::CodeRefused).because("the code came in the clear") });
            }
            (SoleField::Absent, SoleField::One(code)) => (proving.code(code).await?, None),
            (SoleField::Absent, SoleField::Several) => return Err(Refusal::of(Reason::CodeRefused)),
            (SoleField::Absent, SoleField::Absent) => return Err(refusal),
        };
        evidence.second_factors.push(second);
        self.judge(enforcement, evidence).map(|permit| Judged { permit, used })
    }

    /// Reads a grant, and the request's body where it is bound to one.
    async fn read_grant<'s>(
        &'s self,
        proving: &Proving<'_, 's>,
        text: &HeaderValue,
        body: &mut RequestBody,
        form: &mut Option<Box<HeldForm<'s>>>,
    ) -> Result<UsedGrant<'s>, Refusal> {
        let Proving { authority, enforcement, principal } = *proving;
        let grant = authority.read_grant(text.as_bytes(), principal, enforcement.now).map_err(refusal)?;
        if grant.wants_body() {
            let held = match form {
                Some(held) => held,
                None => {
                    let max = authority.config().grant_body_bytes;
                    form.insert(Box::new(self.forms.read(body, enforcement.inbound.origin.client, max).await?))
                }
            };
            if !grant.fits(&request(enforcement, held.content())?) {
                return Err(Refusal::of(Reason::GrantInvalid).because("the grant is bound to another request"));
            }
        }
        Ok(UsedGrant { authority, grant })
    }
}

impl Proving<'_, '_> {
    async fn code(&self, code: &HeaderValue) -> Result<Arc<SecondFactor>, Refusal> {
        let Enforcement { inbound, now, .. } = *self.enforcement;
        let way = Way { client: inbound.origin.client, request_id: inbound.request_id.as_str() };
        let proved = self.authority.prove_in_request(self.principal, way, code.as_bytes(), now).await;
        proved.map(Arc::new).map_err(refusal)
    }
}

/// The request as a grant may be bound to it: what the service will act on.
fn request(enforcement: &Enforcement<'_>, body: &[u8]) -> Result<GrantBinding, Refusal> {
    let Enforcement { inbound, path, matched, .. } = *enforcement;
    // Where the service may act on either of two methods, no grant is for just one.
    if matched.said.is_some() {
        return Err(Refusal::of(Reason::GrantInvalid).because("the service may take the request for another method"));
    }
    Ok(GrantBinding {
        method: matched.method.clone(),
        target: Target::new(&inbound.site.authority, path, inbound.query()),
        body: GrantBinding::digest(body),
    })
}

/// What the authority refused.
pub(super) fn refusal(reason: Reason) -> Refusal {
    let retry_after = (reason == Reason::AuthorityUnavailable).then_some(RETRY_AFTER_SECS);
    Refusal { retry_after, ..Refusal::of(reason) }
}
