//! The JSON API: one table of operations, from which calls are dispatched and the OpenAPI document is made.
//!
//! ```text
//!   POST /challenges ─> id, options ── POST /challenges/{id}/verify ─┬─ step_up ─> the same token passes, until max_age
//!                                                                    ├─ grant ───> POST /token: a grant (RFC 8693)
//!                                                                    └─ manage ──> POST /factors, …: one change
//! ```

mod cors;
mod handlers;
mod openapi;
mod operations;
mod token;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use openapi::{Described, described, document};
pub use operations::{Kind, Needs, Operation, PREFIX, TABLE};

use self::operations::Route;
use super::{Answer, Authority, Call, Fault};

impl Authority {
    /// Answers a call of the API; `None`: the path is not the API's.
    pub(super) async fn api(&self, call: &Call<'_>) -> Option<Answer> {
        let mut answer = match operations::find(call.method, call.path)? {
            Ok(Route::Operation(operation, id)) => match self.run(operation, id, call).await {
                Ok(answer) => answer,
                Err(fault) => {
                    if let Fault::Store(fault) = &fault {
                        tracing::error!(%fault, request_id = call.request_id, "the authority's store does not answer");
                        self.core.observer.store_fault();
                    }
                    fault.answer()
                }
            },
            Ok(Route::Preflight(methods)) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::NO_CONTENT;
                self.preflight(call, methods, response.headers_mut());
                Answer::served(response)
            }
            Err(fault) => fault.answer(),
        };
        self.allow_origin(call, answer.response.headers_mut());
        Some(answer)
    }

    async fn run(&self, operation: &Operation, id: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        // Codes and tokens go no way that others read; the description is for everybody.
        if operation.kind != Kind::OpenApi && !call.confidential {
            return Err(Fault::Cleartext);
        }
        if operation.needs == Needs::Credential && call.principal.is_none() {
            return Err(Fault::Anonymous);
        }
        match operation.kind {
            Kind::Me => self.me(call).await,
            Kind::Challenge => self.challenge(call).await,
            Kind::Verify => self.verify(id, call).await,
            Kind::Enrol => self.enrol(call).await,
            Kind::Confirm => self.confirm(id, call).await,
            Kind::Rename => self.rename_factor(id, call).await,
            Kind::Remove => self.remove_factor(id, call).await,
            Kind::RecoveryCodes => self.recovery_codes(call).await,
            Kind::Elevations => self.list_elevations(call),
            Kind::Elevate => self.elevate_by_code(call).await,
            Kind::StepDown => self.end_elevation(call).await,
            Kind::PageLink => self.link_page(call).await,
            Kind::PushShown => self.show_push(call).await,
            Kind::PushDecide => self.decide_push(call).await,
            Kind::Token => self.exchange(call).await,
            Kind::OpenApi => {
                let accounts = self.accounts().map(|_| super::accounts::described()).unwrap_or_default();
                let all: Vec<Described> = openapi::described().into_iter().chain(accounts).collect();
                Ok(json(StatusCode::OK, &openapi::document(&self.base_url(), &all)))
            }
        }
    }
}

/// An answer in JSON, which nobody keeps.
pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer::served(response)
}

/// An answer without a body.
pub(super) fn nothing() -> Answer {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer::served(response)
}

/// A body in JSON. A page of another origin can send a form or plain text without asking first, so neither is read as JSON.
pub(super) fn body<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, Fault> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Fault::Call("the body is application/json"));
    }
    serde_json::from_slice(call.body)
        .map_err(|_| Fault::Call("the body is not the JSON object that this operation takes"))
}
