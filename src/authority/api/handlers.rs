//! What each operation of the JSON API does: reads the call, asks the authority, writes the answer.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{body, json, nothing};
use crate::{
    authority::{
        Answer, Answered, Authority, Call, Caller, End, FactorRecord, Fault, Finished, Occasion, Proof, Purpose, Right,
        Wanted, Way,
        pages::{Errand, LinkWanted},
    },
    policy::Factor,
};

/// What a challenge may be for.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum For {
    #[default]
    StepUp,
    Grant,
    Manage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChallengeBody {
    #[serde(default)]
    purpose: For,
    level: Option<String>,
    factor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    code: Option<String>,
    credential: Option<Box<RawValue>>,
}

/// What somebody brings for the right to change factors.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RightBody {
    /// The number of a challenge for `manage` that was answered.
    proof: Option<String>,
    /// A code of an app.
    otp: Option<String>,
    invitation: Option<String>,
    recovery_code: Option<String>,
}

#[derive(Deserialize)]
struct EnrolBody {
    kind: String,
    #[serde(default)]
    label: String,
    address: Option<String>,
    #[serde(default)]
    right: RightBody,
}

#[derive(Deserialize)]
struct ChangeBody {
    #[serde(default)]
    label: String,
    #[serde(default)]
    right: RightBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

/// What a page may be for.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum LinkFor {
    #[default]
    StepUp,
    Grant,
    Enrol,
    Manage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    #[serde(default)]
    purpose: LinkFor,
    level: Option<String>,
    return_to: Option<String>,
    state: Option<String>,
    invitation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionBody {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionBody {
    token: String,
    approve: bool,
    number: Option<String>,
}

impl VerifyBody {
    fn answered(&self) -> Result<Answered<'_>, Fault> {
        match (&self.code, &self.credential) {
            (Some(code), None) => Ok(Answered::Code(code)),
            (None, Some(credential)) => Ok(Answered::Credential(credential.get().as_bytes())),
            (None, None) => Ok(Answered::Approval),
            (Some(_), Some(_)) => Err(Fault::Call("either `code` or `credential`")),
        }
    }
}

fn factor(name: &str) -> Result<Factor, Fault> {
    Factor::from_name(name).ok_or(Fault::Call("there is no factor of this name"))
}

fn shown(factor: &FactorRecord, now: u64) -> Value {
    json!({
        "id": factor.id, "kind": factor.kind().name(), "label": factor.label, "created_at": factor.created_at,
        "last_used": factor.last_used, "suspect": factor.suspect,
        "may_delete_from": factor.may_delete_from.filter(|from| *from > now),
    })
}

impl Authority {
    pub(super) async fn me(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, now) = (self.caller_of(call)?, call.now);
        let person = self.person(&caller, now).await?;
        let factors = person.iter().flat_map(|person| &person.factors);
        let factors: Vec<Value> = factors.map(|factor| shown(factor, now.unix_secs())).collect();
        let offered = Factor::ALL.into_iter().filter(|factor| self.offers(*factor)).map(Factor::name);
        Ok(json(
            StatusCode::OK,
            &json!({
                "issuer": caller.issuer, "subject": caller.subject,
                "factors": factors,
                "recovery_codes_left": self.recovery_codes_left(&caller, now).await?,
                "offered": offered.collect::<Vec<_>>(),
                "levels": self.levels().iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
                "elevations": self.elevated(&caller, now),
            }),
        ))
    }

    pub(super) async fn challenge(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<ChallengeBody>(call)?);
        let level = || body.level.clone().ok_or(Fault::Call("`level` says which level of proof"));
        let purpose = match body.purpose {
            For::StepUp => Purpose::StepUp { level: level()? },
            For::Grant => Purpose::Grant { level: level()? },
            For::Manage => Purpose::Manage,
        };
        let factor = body.factor.as_deref().map(factor).transpose()?;
        let begun = self.begin(&caller, purpose, factor, Way::of(call), call.now).await?;
        let value = serde_json::to_value(&begun).map_err(|_| Fault::Call("the challenge cannot be written"))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    pub(super) async fn verify(&self, id: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<VerifyBody>(call)?);
        let answered = body.answered()?;
        // A step-up elevates; what is for a grant or a change is kept until that is asked for.
        let end = match self.asked_for(&caller, id, call.now).await? {
            Some(Purpose::StepUp { .. }) => End::Elevate,
            Some(Purpose::Grant { .. } | Purpose::Manage) | None => End::Keep,
            Some(Purpose::SignIn) => return Err(Fault::Proof),
        };
        match self.finish(&caller, id, answered, end, Way::of(call), call.now).await? {
            Finished::Pending => Ok(json(StatusCode::ACCEPTED, &json!({"status": "pending"}))),
            Finished::Proved { proof, elevated_until, .. } => Ok(json(
                StatusCode::OK,
                &json!({
                    "status": "proved", "factors": proof.factors, "amr": proof.amr, "auth_time": proof.at(),
                    "elevated_until": elevated_until,
                    "proof": matches!(end, End::Keep).then_some(id),
                }),
            )),
        }
    }

    /// A fresh proof, by a challenge that was answered or by a code.
    async fn proof_of(&self, right: &RightBody, caller: &Caller, call: &Call<'_>) -> Result<Proof, Fault> {
        match (&right.proof, &right.otp, call.principal) {
            (Some(id), None, _) => self.redeem(caller, id, &Purpose::Manage, call.now).await,
            (None, Some(code), Some(principal)) => {
                self.prove_code(principal, code.as_bytes(), Occasion::Manage, Way::of(call), call.now).await
            }
            _ => Err(Fault::Call("`right` has one of `proof` and `otp`")),
        }
    }

    pub(super) async fn enrol(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<EnrolBody>(call)?);
        let wanted = Wanted { factor: factor(&body.kind)?, label: body.label, address: body.address };
        if !self.offers(wanted.factor) {
            return Err(Fault::Call("factors of this kind are not enrolled here"));
        }
        let proof;
        let right = match &body.right {
            RightBody { invitation: Some(code), proof: None, otp: None, recovery_code: None } => {
                Right::Invitation(code)
            }
            RightBody { recovery_code: Some(code), proof: None, otp: None, invitation: None } => Right::Recovery(code),
            RightBody { proof: None, otp: None, invitation: None, recovery_code: None } => Right::Nothing,
            by_proof @ RightBody { invitation: None, recovery_code: None, .. } => {
                proof = self.proof_of(by_proof, &caller, call).await?;
                Right::Proof(&proof)
            }
            RightBody { .. } => return Err(Fault::Call("`right` has one member")),
        };
        let begun = self.begin_enrolment(&caller, wanted, right, Way::of(call), call.now).await?;
        let value = serde_json::to_value(&begun).map_err(|_| Fault::Call("the enrolment cannot be written"))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    pub(super) async fn confirm(&self, id: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<VerifyBody>(call)?);
        let enrolled = self.finish_enrolment(&caller, id, body.answered()?, Way::of(call), call.now).await?;
        let value = serde_json::to_value(&enrolled).map_err(|_| Fault::Call("the factor cannot be written"))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    pub(super) async fn rename_factor(&self, id: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<ChangeBody>(call)?);
        let proof = self.proof_of(&body.right, &caller, call).await?;
        self.rename(&caller, id, &body.label, &proof, Way::of(call), call.now).await?;
        Ok(nothing())
    }

    pub(super) async fn remove_factor(&self, id: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<ChangeBody>(call)?);
        let proof = self.proof_of(&body.right, &caller, call).await?;
        let left = self.remove(&caller, id, &proof, Way::of(call), call.now).await?;
        Ok(json(StatusCode::OK, &json!({"left": left, "needs_invitation": left == 0})))
    }

    pub(super) async fn recovery_codes(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<ChangeBody>(call)?);
        let proof = self.proof_of(&body.right, &caller, call).await?;
        let codes = self.new_recovery_codes(&caller, &proof, Way::of(call), call.now).await?;
        Ok(json(StatusCode::CREATED, &json!({"recovery_codes": codes})))
    }

    pub(super) fn list_elevations(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let caller = self.caller_of(call)?;
        Ok(json(StatusCode::OK, &json!({"elevations": self.elevated(&caller, call.now)})))
    }

    pub(super) async fn elevate_by_code(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let (caller, body) = (self.caller_of(call)?, body::<CodeBody>(call)?);
        let elevation = self.hand_over(&caller, &body.code, Way::of(call), call.now).await?;
        let value = serde_json::to_value(&elevation).map_err(|_| Fault::Call("the elevation cannot be written"))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    pub(super) async fn end_elevation(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let caller = self.caller_of(call)?;
        self.step_down(&caller, Way::of(call), call.now).await?;
        Ok(nothing())
    }

    pub(super) async fn link_page(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let body = body::<LinkBody>(call)?;
        let level = || body.level.clone().ok_or(Fault::Call("`level` says which level of proof"));
        let errand = match body.purpose {
            LinkFor::StepUp => Errand::StepUp { level: level()? },
            LinkFor::Grant => Errand::Grant { level: level()? },
            LinkFor::Enrol => Errand::Enrol,
            LinkFor::Manage => Errand::Manage,
        };
        let LinkBody { return_to, state, invitation, .. } = body;
        let link = self.page_link(call, LinkWanted { errand, return_to, state, invitation }).await?;
        let value = serde_json::to_value(&link).map_err(|_| Fault::Call("the link cannot be written"))?;
        Ok(json(StatusCode::CREATED, &value))
    }

    pub(super) async fn show_push(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let shown = self.push_shown(&body::<QuestionBody>(call)?.token, call.now).await?;
        let value = serde_json::to_value(&shown).map_err(|_| Fault::Call("the question cannot be written"))?;
        Ok(json(StatusCode::OK, &value))
    }

    pub(super) async fn decide_push(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let body = body::<DecisionBody>(call)?;
        let number = match (body.approve, &body.number) {
            (true, Some(number)) => Some(number.as_str()),
            (true, None) => return Err(Fault::Call("an approval has the `number` that the person was shown")),
            (false, _) => None,
        };
        self.push_decide(&body.token, number, call.now).await?;
        Ok(nothing())
    }
}
