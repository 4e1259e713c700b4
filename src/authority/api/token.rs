//! The token endpoint: a grant for the caller's token and a proof, by token exchange (RFC 8693). What is wrong is said as
//! RFC 6749 §5.2 has it.

use http::{StatusCode, header};
use serde_json::json;

use super::json;
use crate::{
    authority::{
        Answer, Authority, BodyDigest, Call, Caller, Fault, GRANT_TOKEN_TYPE, GrantBinding, Occasion, Proof, Purpose,
        Target, Way, granting::read_digest,
    },
    policy::Reason,
};

/// RFC 8693 §2.1.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 §3: what a caller's own token may be called.
const SUBJECT_TYPES: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt"];
/// What a request may say.
const KNOWN: [&str; 11] = [
    "grant_type",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "client_id",
    "challenge",
    "otp",
    "level",
    "method",
    "target",
    "body_digest",
];

/// What is wrong with a request (RFC 6749 §5.2, RFC 8693 §2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong(&'static str, &'static str);

/// The parameters of a form; each once (RFC 6749 §3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(call: &Call<'_>) -> Result<Self, Wrong> {
        let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Wrong("invalid_request", "the body is application/x-www-form-urlencoded"));
        }
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(call.body)
            .into_owned()
            .filter(|(_, value)| !value.is_empty())
            .take(33)
            .collect();
        let is_twice = |at: usize, name: &str| pairs.iter().take(at).any(|(known, _)| known == name);
        if pairs.len() > 32 || pairs.iter().enumerate().any(|(at, (name, _))| is_twice(at, name)) {
            return Err(Wrong("invalid_request", "a parameter stands twice, or there are too many"));
        }
        // What the caller thinks is bound must be: a parameter that is not understood is not passed over.
        if pairs.iter().any(|(name, _)| !KNOWN.contains(&name.as_str())) {
            return Err(Wrong("invalid_request", "a parameter is not known here"));
        }
        Ok(Self(pairs))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Authority {
    pub(super) async fn exchange(&self, call: &Call<'_>) -> Result<Answer, Fault> {
        let caller = self.caller_of(call)?;
        match self.exchanged(&caller, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Wrong(error, description))) => {
                let value = json!({"error": error, "error_description": description});
                let reason = if error == "invalid_grant" { Reason::ProofRefused } else { Reason::CallRefused };
                Ok(Answer { reason, ..json(StatusCode::BAD_REQUEST, &value) })
            }
            // One answer for a wrong proof, a used one, and one that was not looked at.
            Err(Fault::Proof) => {
                let value = json!({"error": "invalid_grant", "error_description": "the proof is refused"});
                Ok(Answer { reason: Reason::ProofRefused, ..json(StatusCode::BAD_REQUEST, &value) })
            }
            Err(fault) => Err(fault),
        }
    }

    async fn exchanged(&self, caller: &Caller, call: &Call<'_>) -> Result<Result<Answer, Wrong>, Fault> {
        let asked = match Form::read(call).and_then(|form| self.asked(form, call)) {
            Ok(asked) => asked,
            Err(wrong) => return Ok(Err(wrong)),
        };
        // A level whose requests must be bound has no use for a grant that is not; nothing is used up for it.
        let unbound = Wrong("invalid_request", "grants of this level are bound: `method`, `target` and `body_digest`");
        let is_missing =
            |level: &str| asked.binding.is_none() && self.levels().get(level).is_some_and(|level| level.bind);
        let (level, proof): (String, Proof) = match &asked.by {
            By::Challenge(id) => {
                let Purpose::Grant { level } = self.proved_for(caller, id, call.now).await? else {
                    return Ok(Err(Wrong("invalid_grant", "the challenge is not for a grant")));
                };
                if is_missing(&level) {
                    return Ok(Err(unbound));
                }
                let proof = self.redeem(caller, id, &Purpose::Grant { level: level.clone() }, call.now).await?;
                (level, proof)
            }
            By::Otp { code, level } => {
                if is_missing(level) {
                    return Ok(Err(unbound));
                }
                let principal = call.principal.ok_or(Fault::Anonymous)?;
                let proof =
                    self.prove_code(principal, code.as_bytes(), Occasion::Grant, Way::of(call), call.now).await?;
                (level.clone(), proof)
            }
        };
        let granted = self.grant(caller, &level, &proof, asked.binding.as_ref(), Way::of(call), call.now)?;
        Ok(Ok(json(
            StatusCode::OK,
            &json!({
                "access_token": granted.token, "issued_token_type": GRANT_TOKEN_TYPE,
                // RFC 8693 §2.2.1: what is no access token has no type of one.
                "token_type": "N_A", "expires_in": granted.expires_in,
            }),
        )))
    }

    /// What a form asks for.
    fn asked(&self, form: Form, call: &Call<'_>) -> Result<Asked, Wrong> {
        let find = |name: &str| form.find(name);
        if find("grant_type") != Some(GRANT_TYPE) {
            return Err(Wrong("unsupported_grant_type", "`grant_type` is token exchange (RFC 8693)"));
        }
        // RFC 8693 §2.1: what is issued where nothing is asked for is the server's choice, and there is one kind here.
        if find("requested_token_type").is_some_and(|kind| kind != GRANT_TOKEN_TYPE) {
            return Err(Wrong("invalid_request", "`requested_token_type` is that of a grant"));
        }
        if !find("subject_token_type").is_some_and(|kind| SUBJECT_TYPES.contains(&kind)) {
            return Err(Wrong("invalid_request", "`subject_token_type` is that of an access token"));
        }
        let token = find("subject_token").unwrap_or_default();
        // The token that was verified is the one in the header; another one in the form is nobody's.
        let own = call.principal.and_then(|principal| principal.marks.fingerprint);
        if own != Some(GrantBinding::digest(token.as_bytes())) {
            return Err(Wrong("invalid_request", "`subject_token` is the token of the Authorization header"));
        }
        let by = match (find("challenge"), find("otp"), find("level")) {
            (Some(id), None, _) => By::Challenge(id.to_owned()),
            (None, Some(code), Some(level)) if self.levels().get(level).is_some() => {
                By::Otp { code: code.to_owned(), level: level.to_owned() }
            }
            (None, Some(_), _) => return Err(Wrong("invalid_request", "`otp` stands with the `level` of a route")),
            (None, None, _) | (Some(_), Some(_), _) => {
                return Err(Wrong("invalid_request", "either `challenge` or `otp` is the proof"));
            }
        };
        let binding = match (find("method"), find("target"), find("body_digest")) {
            (None, None, None) => None,
            (Some(method), Some(target), digest) => {
                let method = method.parse().map_err(|_| Wrong("invalid_request", "`method` is no method"))?;
                let target = Target::parse(target, call.authority)
                    .ok_or(Wrong("invalid_target", "`target` is an absolute URL, or a path with its query"))?;
                let digest: BodyDigest = match digest {
                    Some(text) => read_digest(text)
                        .ok_or(Wrong("invalid_request", "`body_digest` is `sha-256=:…:` (RFC 9530)"))?,
                    None => GrantBinding::digest(b""),
                };
                Some(GrantBinding { method, target, body: digest })
            }
            _ => return Err(Wrong("invalid_request", "`method` and `target` stand together")),
        };
        Ok(Asked { by, binding })
    }
}

/// What a form asks for.
struct Asked {
    by: By,
    binding: Option<GrantBinding>,
}

/// The proof.
enum By {
    Challenge(String),
    Otp { code: String, level: String },
}
