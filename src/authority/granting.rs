//! Grants: short tokens for one use, asked for by RFC 8693 (token exchange) with a proof, and read when they come back with
//! the request that they were made for. Their type is [`TYPE`], which no issuer's token has: none is a bearer token.

use std::{fmt, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    Authority, BodyDigest, Caller, Change, Fault, Grant, GrantBinding, Holder, Owner, Proof, Target, Way,
    caller::actor, grant::GrantBasis, random,
};
use crate::{
    clock::Now,
    jose::{self, Algorithm, Algorithms, TimeClaims},
    policy::{Covers, LevelName, Principal},
    store::{Batch, StoreFault, Table},
};

/// The `typ` of grants (RFC 8725 §3.11).
pub const TYPE: &str = "stepgate-grant+jwt";
/// What a grant is called in token exchange (RFC 8693 §3).
pub const TOKEN_TYPE: &str = "urn:stepgate:params:oauth:token-type:grant";
/// The longest grant that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;
/// How long a grant is remembered as spent after it has expired, in seconds: a request is judged by the moment at which it
/// began, and one whose body comes slowly may use its grant long after; and clocks are set right now and then.
const AFTER_SECS: u64 = 86_400;

/// What a grant says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    /// The SHA-256 of whose it is.
    holder: String,
    level: String,
    auth_time: u64,
    #[serde(flatten)]
    proof: Proof,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// As in `Content-Digest` (RFC 9530 §2).
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// A grant that was made.
#[derive(Clone)]
pub struct Granted {
    /// The grant.
    pub token: String,
    /// Seconds until it expires.
    pub expires_in: u64,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").finish_non_exhaustive()
    }
}

/// The digest of a body as `Content-Digest` writes it (RFC 9530 §2): `sha-256=:…:`, alone.
pub(super) fn read_digest(text: &str) -> Option<BodyDigest> {
    let value = text.trim().strip_prefix("sha-256=:")?.strip_suffix(':')?;
    STANDARD.decode(value).ok()?.try_into().ok()
}

fn write_digest(digest: &BodyDigest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

impl Authority {
    /// Makes a grant of a proof for a level; with `binding` for one request alone.
    pub fn grant(
        &self,
        caller: &Caller,
        level: &str,
        proof: &Proof,
        binding: Option<&GrantBinding>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Granted, Fault> {
        let base = self.base_url();
        let (iat, lives) = (now.unix_secs(), self.config().grant_ttl.as_secs().max(1));
        let worth = self.worth(proof, Covers::Request);
        let claims = Claims {
            iss: base.clone(),
            aud: base,
            iat,
            exp: iat + lives,
            jti: random::id()?,
            holder: URL_SAFE_NO_PAD.encode(caller.holder),
            level: level.to_owned(),
            auth_time: proof.at(),
            acr: worth.assurance.acr.as_deref().map(str::to_owned),
            proof: proof.clone(),
            method: binding.map(|binding| binding.method.as_str().to_owned()),
            target: binding.map(|binding| binding.target.as_str().to_owned()),
            body: binding.map(|binding| write_digest(&binding.body)),
        };
        let unsigned = || Fault::Store(StoreFault::Unavailable("the grant could not be signed".to_owned()));
        let token = self.keys().sign(TYPE, &claims, now).ok_or_else(unsigned)?;
        self.core.observer.change(actor(&caller.owner(), way), Change::Granted, None, "", now);
        Ok(Granted { token, expires_in: lives })
    }

    /// Reads a grant of this caller's.
    pub(super) fn grant_read(&self, text: &[u8], principal: &Principal, now: Now) -> Option<Grant> {
        let text = std::str::from_utf8(text).ok()?;
        let jws = jose::inspect(text, LONGEST).ok().filter(|jws| jws.typ() == Some(TYPE))?;
        let allowed = Algorithms::of(&[Algorithm::ES256, Algorithm::EdDSA]);
        let keys = self.keys().verifying();
        let (verified, _) = jose::verify_any(jws, &keys, allowed).ok()?;
        // Our own clock made the times: no leeway.
        let times = TimeClaims::read(verified.claims()).ok()?;
        times.check(now.numeric_date(), 0.0).ok()?;
        times.exp?;
        let claims: Claims = serde_json::from_value(serde_json::Value::Object(verified.into_claims())).ok()?;
        let base = self.base_url();
        if claims.iss != base || claims.aud != base || !self.serves(principal) {
            return None;
        }
        let Holder(holder) = Holder::of(principal, self.config().elevation_by)?;
        verify_slices_are_equal(&URL_SAFE_NO_PAD.decode(&claims.holder).ok()?, &holder).ok()?;
        let binding = match (claims.method, claims.target, claims.body) {
            (None, None, None) => None,
            (Some(method), Some(target), Some(body)) => Some(GrantBinding {
                method: method.parse().ok()?,
                target: Target::read(&target),
                body: read_digest(&body)?,
            }),
            _ => return None,
        };
        let covers = Covers::Grant { level: LevelName::from(claims.level.as_str()), bound: binding.is_some() };
        Some(Grant {
            id: claims.jti.as_str().into(),
            proof: Arc::new(self.worth(&claims.proof, covers)),
            expires_at: claims.exp,
            binding,
            basis: GrantBasis {
                owner: Owner::of(principal)?,
                factor_id: claims.proof.factor_id.as_str().into(),
                era: claims.proof.era,
            },
        })
    }

    /// Uses a grant up: whoever's commit inserts its number has used it. One whose factor is gone is used up already.
    pub(super) async fn grant_spent(&self, grant: &Grant, now: Now) -> Result<(), Fault> {
        let GrantBasis { owner, factor_id, era } = &grant.basis;
        if !self.holdings_of(owner, now).await?.stand_by(factor_id, *era) {
            return Err(Fault::Spent);
        }
        // What expires later than anything that we make is not ours, however it came here.
        let until = grant.expires_at.min(now.unix_secs() + 86_400).saturating_add(AFTER_SECS);
        let key = self.store().index("grant", &[grant.id.as_bytes()]);
        match self.store().commit(Batch::new().insert(Table::Spent, &key, &(), Some(until)), now).await {
            Ok(()) => Ok(()),
            Err(StoreFault::Conflict) => Err(Fault::Spent),
            Err(fault) => Err(fault.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_rfc_9530_writes_it_and_no_other_way() {
        let digest = GrantBinding::digest(b"{\"hello\": \"world\"}\n");
        // RFC 9530 §2, figure 1.
        let text = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!((read_digest(text), write_digest(&digest).as_str()), (Some(digest), text));
        for bad in
            ["", "sha-256=", &text[8..], &text.replace("256", "512"), &format!("{text}, {text}"), "sha-256=:AAAA:"]
        {
            assert_eq!(read_digest(bad), None, "{bad}");
        }
    }
}
