//! The description of the API (OpenAPI 3.1), made of the table that calls are dispatched from.

use serde_json::{Value, json};

use super::{Kind, TABLE};
use crate::{
    endpoint::openapi::{self, About, Described, moment, object, optional, text},
    erasure::{HoldKind, State},
};

/// The document, for endpoints below a URL.
pub fn document(base: &str) -> Value {
    let operations: Vec<Described> = TABLE
        .iter()
        .map(|row| Described {
            id: format!("{:?}", row.kind),
            method: row.method.as_str().to_ascii_lowercase(),
            path: row.path.to_owned(),
            needs_credential: row.kind != Kind::OpenApi,
            summary: row.summary.to_owned(),
            request: None,
            responses: responses(row.kind),
        })
        .collect();
    let about = About {
        title: "Stepgate's account deletions",
        description: "Deletions that were asked for at the service's own operations, which answer 202 with `status_url`: seeing, \
            cancelling and approving them, and what would become of one. Errors are problem documents (RFC 9457); a deletion that \
            is not the caller's to see is told from none by nothing.",
    };
    let mut document = openapi::document(about, base, &operations, schemas());
    // The parameters of a preview are the one thing that a path does not say.
    if let Some(operation) = document.pointer_mut("/paths/~1preview/get").and_then(Value::as_object_mut) {
        let parameter = |name: &str, required: bool, description: &str| json!({"name": name, "in": "query", "required": required, "schema": text(), "description": description});
        operation.insert(
            "parameters".to_owned(),
            json!([
                parameter("method", false, "The request's method; DELETE by default."),
                parameter("target", true, "Its path and query, or its URL."),
                parameter("body", false, "Its body, in JSON, where the plan looks for a value in it."),
            ]),
        );
    }
    document
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn schemas() -> Value {
    let kept = object(&["what", "why", "how_long"], json!({"what": text(), "why": text(), "how_long": text()}));
    let scope =
        object(&["summary", "erased", "kept"], json!({"summary": text(), "erased": texts(), "kept": list_of(kept)}));
    let part = |states: &[&str]| {
        list_of(object(&["name", "state"], json!({"name": text(), "state": {"type": "string", "enum": states}})))
    };
    // A legal hold is told nobody but operators.
    let holds = HoldKind::ALL.iter().filter(|kind| **kind != HoldKind::Legal);
    let holds: Vec<&str> = holds.map(|kind| kind.name()).collect();
    json!({
        "Scope": scope,
        "Deletion": object(
            &["id", "plan", "operation", "state", "holds", "status_url", "scope", "requested_at", "requested_by", "steps", "checks"],
            json!({
                "id": text(), "plan": text(), "operation": text(),
                "state": {"type": "string", "enum": State::NAMES},
                "holds": list_of(json!({"type": "string", "enum": holds})),
                "status_url": {"type": "string", "format": "uri"}, "cancel_url": {"type": ["string", "null"], "format": "uri"},
                "scope": by_ref("Scope"),
                "requested_at": moment(), "requested_by": text(), "held_until": optional("integer"), "begun_at": optional("integer"),
                "erased_by": optional("integer"), "cancelled_at": optional("integer"), "erased_at": optional("integer"),
                "steps": part(&["waiting", "sent", "done", "waits_for_a_person"]),
                "checks": part(&["waiting", "seen_before", "gone_so_far", "gone", "not_counted", "waits_for_a_person"]),
            }),
        ),
        "Preview": object(
            &["plan", "operation", "own", "proof", "quota", "scope", "erased_by", "while_held", "four_eyes", "calls", "notified",
              "own_data", "frozen"],
            json!({
                "plan": text(), "operation": text(), "own": boolean(),
                "proof": object(&["held", "lacks"], json!({"held": boolean(), "lacks": texts()})),
                "quota": object(
                    &["name", "requests", "seconds"],
                    json!({"name": text(), "requests": {"type": "integer"}, "seconds": {"type": "integer"}}),
                ),
                "scope": by_ref("Scope"), "held_until": optional("integer"), "erased_by": moment(),
                "while_held": {"type": ["string", "object"]}, "four_eyes": boolean(),
                "calls": list_of(object(&["kind", "name", "upstream"], json!({"kind": text(), "name": text(), "upstream": text()}))),
                "notified": list_of(json!({"type": ["string", "object"]})), "own_data": boolean(),
                "open": optional("string"), "frozen": boolean(),
            }),
        ),
    })
}

fn by_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn responses(kind: Kind) -> Vec<(u16, &'static str, Option<Value>)> {
    let deletion = |description| vec![(200, description, Some(by_ref("Deletion")))];
    match kind {
        Kind::List => {
            let all = object(&["deletions"], json!({"deletions": list_of(by_ref("Deletion"))}));
            vec![(200, "The latest first.", Some(all))]
        }
        Kind::Preview => vec![(200, "What would happen.", Some(by_ref("Preview")))],
        Kind::Show => deletion("The deletion."),
        Kind::Cancel => deletion("It is cancelled."),
        Kind::Approve => deletion("It is approved."),
        Kind::OpenApi => vec![(200, "This document.", Some(json!({"type": "object"})))],
    }
}
