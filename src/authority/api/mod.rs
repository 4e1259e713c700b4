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
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;

pub use openapi::{described, document};
pub use operations::{Kind, Needs, Operation, PREFIX, TABLE};

use self::operations::Route;
use super::{Answer, Authority, Call, Fault};
use crate::endpoint;
pub(super) use crate::endpoint::json::{json, nothing};

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
                let all: Vec<_> = openapi::described().into_iter().chain(accounts).collect();
                Ok(json(StatusCode::OK, &openapi::document(&self.base_url(), &all)))
            }
        }
    }
}

/// A body in JSON.
fn body<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, Fault> {
    endpoint::json::body(call).map_err(Fault::Call)
}
