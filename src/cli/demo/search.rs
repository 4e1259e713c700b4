//! The sample search index: what is found of an account. A second place that an erased person's data lives on in, and knows nothing
//! of the first.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::{answer, api::PEOPLE};
use crate::body::{ConnectionInfo, Received, ResponseBody, Serve};

/// The documents that there are, by their names.
#[derive(Debug)]
pub(super) struct SearchIndex {
    documents: Mutex<BTreeSet<String>>,
}

impl Default for SearchIndex {
    fn default() -> Self {
        Self { documents: Mutex::new(PEOPLE.map(str::to_owned).into()) }
    }
}

/// The index on one worker.
pub(super) struct Endpoint(pub(super) Arc<SearchIndex>);

impl Serve for Endpoint {
    type Tail = ();

    async fn serve(&self, _info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<()>> {
        self.0.handle(request.method(), request.uri().path())
    }
}

impl SearchIndex {
    fn handle(&self, method: &Method, path: &str) -> Response<ResponseBody<()>> {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let json = |status, body: serde_json::Value| answer(status, "application/json", format!("{body}\n"));
        match (method.as_str(), path.strip_prefix("/documents/")) {
            ("GET" | "HEAD", Some(name)) if documents.contains(name) => {
                json(StatusCode::OK, json!({"document": name, "text": "all that is found of them"}))
            }
            ("DELETE", Some(name)) if documents.remove(name) => answer(StatusCode::NO_CONTENT, "application/json", ""),
            _ => json(StatusCode::NOT_FOUND, json!({"error": "not found"})),
        }
    }
}
