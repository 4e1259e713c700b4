//! The accounts' part of the API's description (OpenAPI 3.1), made of the table that calls are dispatched from.

use serde_json::{Value, json};

use super::api::{Kind, Operation, PREFIX, TABLE};
use crate::endpoint::openapi::Described;

/// The operations of accounts.
pub(crate) fn described() -> Vec<Described> {
    let describe = |row: &Operation| Described {
        id: format!("Accounts{:?}", row.kind),
        method: row.method.as_str().to_ascii_lowercase(),
        path: format!("{PREFIX}{}", row.path),
        needs_credential: row.token,
        summary: row.summary.trim().to_owned(),
        request: request(row.kind).map(|schema| ("application/json", schema)),
        responses: responses(row.kind),
    };
    let keys = Described {
        id: "AccountsKeys".to_owned(),
        method: "get".to_owned(),
        path: "/jwks.json".to_owned(),
        needs_credential: false,
        summary: "The public keys of access tokens (RFC 7517).".to_owned(),
        request: None,
        responses: vec![(200, "A JWK Set.", Some(json!({"type": "object", "required": ["keys"]})))],
    };
    TABLE.iter().map(describe).chain([keys]).collect()
}

fn object(required: &[&str], properties: &[&str]) -> Value {
    let members = properties.iter().map(|name| ((*name).to_owned(), property(name)));
    json!({
        "type": "object", "required": required, "additionalProperties": false,
        "properties": members.collect::<serde_json::Map<_, _>>(),
    })
}

fn property(name: &str) -> Value {
    match name {
        "credential" => json!({"type": "object", "description": "WebAuthn's response."}),
        "factor" => json!({"type": "string", "enum": ["passkey", "totp", "email", "webhook", "push", "recovery"]}),
        "proof" => {
            json!({"type": ["string", "null"], "description": "The number of a challenge for `manage` that was answered."})
        }
        "email" => json!({"type": "string", "format": "email"}),
        "refresh_token" => json!({"type": "string", "description": "Once more, where a renewal is what waits."}),
        _ => json!({"type": "string"}),
    }
}

fn request(kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Register => object(&["password"], &["name", "email", "password", "invitation"]),
        Kind::Confirm => object(&["registration", "code"], &["registration", "code", "name"]),
        Kind::SignIn => object(&["name", "password"], &["name", "password", "scope"]),
        Kind::Again => object(&["ticket"], &["ticket", "factor"]),
        Kind::Verify => object(&["ticket", "id"], &["ticket", "id", "code", "credential", "refresh_token"]),
        Kind::Redeem => object(&["code", "code_verifier"], &["code", "code_verifier"]),
        Kind::Recover => object(&["email"], &["email"]),
        Kind::Recovered => object(&["recovery", "code", "password"], &["recovery", "code", "password"]),
        Kind::Password => object(&["current", "new"], &["current", "new", "proof"]),
        Kind::NewMail => object(&["email", "password"], &["email", "password", "proof"]),
        Kind::MailConfirmed => object(&["change", "code"], &["change", "code"]),
        Kind::Account | Kind::Sessions | Kind::EndOthers | Kind::EndOne | Kind::SignOut => return None,
    })
}

fn responses(kind: Kind) -> Vec<(u16, &'static str, Option<Value>)> {
    let answer = |required: &[&str]| Some(json!({"type": "object", "required": required}));
    let step = || {
        vec![
            (
                200,
                "Tokens (RFC 6749 §5.1); or, with `status: second_factor`, a ticket and a challenge that is to be met first; or, at \
                 the end of a recovery, `status: recovered`.",
                answer(&[]),
            ),
            (202, "The other device has not answered yet.", answer(&["status"])),
        ]
    };
    match kind {
        Kind::Register => vec![
            (201, "The account, by an invitation.", answer(&["subject", "name"])),
            (
                202,
                "A code was mailed; the answer is one, whether there is an account or not.",
                answer(&["registration", "expires_at"]),
            ),
        ],
        Kind::Confirm => vec![(201, "The account.", answer(&["subject", "name"]))],
        Kind::SignIn | Kind::Verify | Kind::Recovered => step(),
        Kind::Redeem => vec![(200, "Tokens (RFC 6749 §5.1).", answer(&["access_token", "refresh_token"]))],
        Kind::Again => vec![(200, "Another challenge.", answer(&["challenge"]))],
        Kind::Recover => vec![(202, "If there is an account, a code was mailed.", answer(&["recovery", "expires_at"]))],
        Kind::Account => vec![(200, "The account.", answer(&["subject", "name", "email", "created_at"]))],
        Kind::Sessions => vec![(200, "The sessions, newest first.", answer(&["sessions"]))],
        Kind::NewMail => vec![(202, "A code was mailed to the other address.", answer(&["change", "expires_at"]))],
        Kind::EndOthers | Kind::EndOne | Kind::SignOut | Kind::Password | Kind::MailConfirmed => {
            vec![(204, "Done.", None)]
        }
    }
}
