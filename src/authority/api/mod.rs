//! The JSON API: one table of operations, from which calls are dispatched and the OpenAPI document is made.

mod operations;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

pub use operations::{Needs, Operation, Operations};

use super::{Answer, Authority, Call, Fault, Way};

/// Below `authority.path`: where the API is.
pub const PREFIX: &str = "/api/v1";

impl Authority {
    /// Answers a call of the API; `None`: the path is not the API's.
    pub(super) async fn api(&self, call: &Call<'_>) -> Option<Answer> {
        let path = call.path.strip_prefix(PREFIX)?;
        Some(match operations::find(call.method, path) {
            Ok((operation, place)) => match self.run(operation, place, call).await {
                Ok(answer) => answer,
                Err(fault) => Answer::refused(&fault),
            },
            Err(fault) => Answer::refused(&fault),
        })
    }

    async fn run(&self, operation: Operations, place: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let _ = (place, Way::of(call));
        match operation {
            Operations::Me => Err(Fault::NotFound),
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
