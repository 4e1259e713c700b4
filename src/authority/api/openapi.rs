//! The description of the API (OpenAPI 3.1), made of the table that calls are dispatched from.

use serde_json::{Value, json};

use super::operations::{Kind, Needs, TABLE};
use crate::endpoint::openapi::{self, About, Described, moment, object, optional, text};

/// The operations of the table.
pub fn described() -> Vec<Described> {
    let describe = |row: &super::Operation| Described {
        id: format!("{:?}", row.kind),
        method: row.method.as_str().to_ascii_lowercase(),
        path: row.path.to_owned(),
        needs_credential: row.needs == Needs::Credential,
        summary: row.summary.trim().to_owned(),
        request: request(row.kind),
        responses: responses(row.kind),
    };
    TABLE.iter().map(describe).collect()
}

/// The document of operations below a URL.
pub fn document(base: &str, operations: &[Described]) -> Value {
    let about = About {
        title: "Stepgate's second-factor authority",
        description: "Steps up the caller's own token: challenges, factors, elevations and grants. Errors are problem documents \
            (RFC 9457); what would help somebody guess is one answer.",
    };
    let schemas = json!({"Factor": factor(), "Elevation": elevation(), "Right": right()});
    openapi::document(about, base, operations, schemas)
}

fn kinds() -> Value {
    json!({"type": "string", "enum": ["passkey", "totp", "email", "webhook", "push", "recovery"]})
}

fn factor() -> Value {
    object(
        &["id", "kind", "label", "created_at"],
        json!({
            "id": text(), "kind": kinds(), "label": text(), "created_at": moment(), "last_used": optional("integer"),
            "suspect": {"type": "boolean", "description": "A passkey that may have been copied: it is taken no more."},
            "may_delete_from": optional("integer"),
        }),
    )
}

fn elevation() -> Value {
    object(
        &["level", "factors", "since", "until"],
        json!({"level": text(), "factors": {"type": "array", "items": text()}, "since": moment(), "until": moment()}),
    )
}

fn right() -> Value {
    json!({
        "type": "object",
        "description": "What gives the right to a change: one member, or none where `enrolment: open` lets the first one in.",
        "maxProperties": 1,
        "properties": {
            "proof": {"type": "string", "description": "The number of a challenge for `manage` that was answered."},
            "otp": {"type": "string", "description": "A code of an authenticator app."},
            "invitation": text(), "recovery_code": text(),
        },
    })
}

fn by_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

const JSON: &str = "application/json";

fn request(kind: Kind) -> Option<(&'static str, Value)> {
    let answer = || {
        json!({
            "type": "object",
            "description": "`code`, or `credential`; neither asks whether an approval has come.",
            "properties": {"code": text(), "credential": {"type": "object", "description": "WebAuthn's response."}},
            "additionalProperties": false,
        })
    };
    let schema = match kind {
        Kind::Me | Kind::Elevations | Kind::StepDown | Kind::OpenApi => return None,
        Kind::Challenge => object(
            &[],
            json!({
                "purpose": {"type": "string", "enum": ["step_up", "grant", "manage"], "default": "step_up"},
                "level": {"type": "string", "description": "The level that was refused: `step_up.level` of the problem."},
                "factor": kinds(),
            }),
        ),
        Kind::Verify | Kind::Confirm => answer(),
        Kind::Enrol => {
            object(&["kind"], json!({"kind": kinds(), "label": text(), "address": text(), "right": by_ref("Right")}))
        }
        Kind::Rename => object(&["label", "right"], json!({"label": text(), "right": by_ref("Right")})),
        Kind::Remove | Kind::RecoveryCodes => object(&["right"], json!({"right": by_ref("Right")})),
        Kind::Elevate => object(&["code"], json!({"code": text()})),
        Kind::PageLink => object(
            &[],
            json!({
                "purpose": {"type": "string", "enum": ["step_up", "grant", "enrol", "manage"], "default": "step_up"},
                "level": text(), "state": text(), "invitation": text(),
                "return_to": {"type": "string", "format": "uri", "description":
                    "Where the browser goes in the end, with `stepgate_code` (for POST /elevations), `stepgate_challenge` \
                     (for POST /token) or `stepgate_result` in its query: a page of an origin of `authority.return_to`."},
            }),
        ),
        Kind::PushShown => object(&["token"], json!({"token": text()})),
        Kind::PushDecide => {
            object(&["token", "approve"], json!({"token": text(), "approve": {"type": "boolean"}, "number": text()}))
        }
        Kind::Token => {
            let schema = object(
                &["grant_type", "subject_token", "subject_token_type"],
                json!({
                    "grant_type": {"const": "urn:ietf:params:oauth:grant-type:token-exchange"},
                    "subject_token": text(),
                    "subject_token_type": {"enum": ["urn:ietf:params:oauth:token-type:access_token",
                        "urn:ietf:params:oauth:token-type:jwt"]},
                    "requested_token_type": {"const": "urn:stepgate:params:oauth:token-type:grant"},
                    "client_id": text(), "challenge": text(), "otp": text(), "level": text(),
                    "method": text(), "target": text(),
                    "body_digest": {"type": "string", "description": "`sha-256=:…:` (RFC 9530)."},
                }),
            );
            return Some(("application/x-www-form-urlencoded", schema));
        }
    };
    Some((JSON, schema))
}

fn responses(kind: Kind) -> Vec<(u16, &'static str, Option<Value>)> {
    let texts = || json!({"type": "array", "items": text()});
    let nothing = || vec![(204, "Done.", None)];
    match kind {
        Kind::Me => vec![(
            200,
            "The caller.",
            Some(object(
                &["issuer", "subject", "factors", "recovery_codes_left", "offered", "levels", "elevations"],
                json!({
                    "issuer": text(), "subject": text(),
                    "factors": {"type": "array", "items": by_ref("Factor")},
                    "recovery_codes_left": {"type": "integer"}, "offered": texts(), "levels": texts(),
                    "elevations": {"type": "array", "items": by_ref("Elevation")},
                }),
            )),
        )],
        Kind::Challenge => vec![(
            201,
            "The challenge.",
            Some(object(
                &["id", "expires_at", "factors"],
                json!({
                    "id": text(), "expires_at": moment(), "factors": {"type": "array", "items": kinds()},
                    "passkey": {"type": ["object", "null"], "description": "For `navigator.credentials.get`."},
                    "sent_to": optional("string"), "number": optional("string"),
                }),
            )),
        )],
        Kind::Verify => vec![
            (
                200,
                "It was proved.",
                Some(object(
                    &["status", "factors", "amr", "auth_time"],
                    json!({
                        "status": {"const": "proved"}, "factors": texts(), "amr": texts(), "auth_time": moment(),
                        "elevated_until": optional("integer"), "proof": optional("string"),
                    }),
                )),
            ),
            (
                202,
                "The other device has not answered yet.",
                Some(object(&["status"], json!({"status": {"const": "pending"}}))),
            ),
        ],
        Kind::Enrol => vec![(
            201,
            "What confirms it.",
            Some(object(
                &["id", "expires_at"],
                json!({
                    "id": text(), "expires_at": moment(), "otpauth": optional("string"), "secret": optional("string"),
                    "qr_svg": optional("string"), "qr_text": optional("string"), "passkey": optional("object"),
                    "sent_to": optional("string"), "number": optional("string"),
                }),
            )),
        )],
        Kind::Confirm => vec![(
            201,
            "The factor.",
            Some(object(
                &["id", "recovery_codes"],
                json!({"id": text(), "may_delete_from": optional("integer"), "recovery_codes": texts()}),
            )),
        )],
        Kind::Remove => vec![(
            200,
            "It is gone. Without any factor only an invitation enrols one again.",
            Some(object(
                &["left", "needs_invitation"],
                json!({"left": {"type": "integer"}, "needs_invitation": {"type": "boolean"}}),
            )),
        )],
        Kind::RecoveryCodes => {
            vec![(
                201,
                "The codes, shown this once.",
                Some(object(&["recovery_codes"], json!({"recovery_codes": texts()}))),
            )]
        }
        Kind::Elevations => vec![(
            200,
            "The elevations.",
            Some(object(&["elevations"], json!({"elevations": {"type": "array", "items": by_ref("Elevation")}}))),
        )],
        Kind::Elevate => vec![(201, "The credential is elevated.", Some(by_ref("Elevation")))],
        Kind::PageLink => vec![(
            201,
            "The link: it opens once, within a minute.",
            Some(object(
                &["url", "expires_at"],
                json!({"url": {"type": "string", "format": "uri"}, "expires_at": moment()}),
            )),
        )],
        Kind::Rename | Kind::StepDown | Kind::PushDecide => nothing(),
        Kind::PushShown => vec![(
            200,
            "What is asked.",
            Some(object(&["details", "numbers"], json!({"details": {"type": "object"}, "numbers": texts()}))),
        )],
        Kind::Token => vec![
            (
                200,
                "The grant (RFC 8693 §2.2.1).",
                Some(object(
                    &["access_token", "issued_token_type", "token_type", "expires_in"],
                    json!({
                        "access_token": text(), "issued_token_type": text(), "token_type": {"const": "N_A"},
                        "expires_in": {"type": "integer"},
                    }),
                )),
            ),
            (
                400,
                "What is wrong (RFC 6749 §5.2).",
                Some(object(&["error"], json!({"error": text(), "error_description": text()}))),
            ),
        ],
        Kind::OpenApi => vec![(200, "This document.", Some(json!({"type": "object"})))],
    }
}
