//! Bodies in JSON: reading those of calls, writing those of answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Answer, Call};

/// An answer in JSON, which nobody keeps.
pub fn json(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer::served(response)
}

/// An answer without a body.
pub fn nothing() -> Answer {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer::served(response)
}

/// A body in JSON; else what is wrong with it, for the caller. A page of another origin can send a form or plain text without asking
/// first, so neither is read as JSON.
pub fn body<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, &'static str> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err("the body is application/json");
    }
    serde_json::from_slice(call.body).map_err(|_| "the body is not the JSON object that this operation takes")
}
