//! The JSON API of deletions: one table of operations, from which calls are dispatched and the OpenAPI document is made. Who calls, and
//! what they proved, is the gateway's to find out; what they are to a deletion is found out here.

mod openapi;
mod shown;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

pub use self::openapi::document;
use super::{Erasures, Fault, Known, May, Receipt, Role, Viewer, life::NotNow, view};
use crate::{
    clock::Now,
    endpoint::{Answer, json::json as answer},
    policy::Principal,
};

/// What is asked of the deletions' endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller's own deletions.
    List,
    /// What would become of a request.
    Preview,
    /// A deletion.
    Show,
    /// Cancels one.
    Cancel,
    /// Approves one.
    Approve,
    /// The description of all that.
    OpenApi,
}

/// A row of the table.
#[derive(Debug)]
pub struct Operation {
    /// Which one.
    pub kind: Kind,
    /// The method.
    pub method: Method,
    /// The path below `deletions.path`; `{id}` stands for one segment.
    pub path: &'static str,
    /// A line for the document.
    pub summary: &'static str,
}

/// Every operation. What has no `{id}` is found before what has.
pub const TABLE: &[Operation] = &[
    Operation { kind: Kind::List, method: Method::GET, path: "/", summary: "The caller's own deletions." },
    Operation {
        kind: Kind::Preview,
        method: Method::GET,
        path: "/preview",
        summary: "What would become of a deletion request; nothing is asked for, and nothing is sent anywhere.",
    },
    Operation { kind: Kind::OpenApi, method: Method::GET, path: "/openapi.json", summary: "This description." },
    Operation { kind: Kind::Show, method: Method::GET, path: "/{id}", summary: "A deletion." },
    Operation {
        kind: Kind::Cancel,
        method: Method::POST,
        path: "/{id}/cancel",
        summary: "Cancels a deletion of which no step was sent. Needs a step-up.",
    },
    Operation {
        kind: Kind::Approve,
        method: Method::POST,
        path: "/{id}/approve",
        summary: "Approves a deletion, as a second person. Needs the proof that asking for it needs.",
    },
];

/// The operation that a call is for, and the number of the deletion; the methods that the path has, where it has not this one. `None`: no
/// operation has this path.
pub fn find<'p>(method: &Method, path: &'p str) -> Option<Result<(&'static Operation, &'p str), Vec<Method>>> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let here: Vec<(&Operation, &str)> = TABLE.iter().filter_map(|row| Some((row, matched(row.path, path)?))).collect();
    // The first path that fits is the path: no number looks like a word.
    let (first, _) = here.first()?;
    let here = || here.iter().filter(|(row, _)| row.path == first.path);
    let found = here().find(|(row, _)| row.method == *method);
    Some(found.copied().ok_or_else(|| here().flat_map(|(row, _)| with_head(&row.method)).collect()))
}

fn with_head(method: &Method) -> Vec<Method> {
    if *method == Method::GET { vec![Method::GET, Method::HEAD] } else { vec![method.clone()] }
}

fn matched<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = pattern.split_once("{id}") else { return (pattern == path).then_some("") };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && id.len() <= 64 && !id.contains('/')).then_some(id)
}

impl Kind {
    /// What a caller must be entitled to for it, where it does something.
    pub const fn does(self) -> Option<May> {
        match self {
            Self::Cancel => Some(May::Cancel),
            Self::Approve => Some(May::Approve),
            Self::List | Self::Preview | Self::Show | Self::OpenApi => None,
        }
    }
}

impl Erasures {
    /// Where a deletion is seen.
    pub fn status_url(&self, id: &str) -> String {
        format!("{}/{id}", self.base_url())
    }

    /// Where the endpoints are: the public origin and the path, without a final slash.
    pub fn base_url(&self) -> String {
        let config = self.config();
        format!("{}{}", config.url.origin().ascii_serialization(), config.path)
    }

    /// The caller's own deletions.
    pub async fn listed(&self, principal: &Principal, now: Now) -> Result<Answer, Fault> {
        let all = self.of_caller(principal, now).await?;
        let all: Vec<_> = all.iter().map(|known| self.describe(known)).collect();
        Ok(answer(StatusCode::OK, &json!({"deletions": all})))
    }

    /// A deletion, for whoever may see it.
    pub async fn seen(&self, id: &str, principal: &Principal, now: Now) -> Result<Answer, Fault> {
        let view = self.shown(id, Viewer::Caller(principal), now).await?;
        Ok(answer(StatusCode::OK, &self.describe(&view.known)))
    }

    /// Does what was asked to a deletion, for a caller who may and has proved enough.
    pub async fn done(&self, may: May, known: &Known, principal: &Principal, now: Now) -> Result<Answer, Fault> {
        let (id, party) = (&known.erasure.id, self.party(known, principal));
        let known = match may {
            May::Cancel => self.cancel(id, party, now).await?,
            May::Approve => {
                // The person, and whoever asked, are known by the token's subject, too: a token of another client may lack the claim.
                if view::role(self.store(), known, principal, may) != Some(Role::Entitled) {
                    return Err(NotNow::SamePerson.into());
                }
                self.approve(id, party, now).await?
            }
            // Whoever only looks changes nothing.
            May::See => known.clone(),
        };
        Ok(answer(StatusCode::OK, &self.describe(&known)))
    }

    /// The answer to a request that a plan took over (RFC 9110 §15.3.3).
    pub fn accepted(&self, receipt: &Receipt) -> Response<Bytes> {
        let Receipt { known, repeated } = receipt;
        let mut response = answer(StatusCode::ACCEPTED, &self.receipt(known, *repeated)).response;
        if let Ok(url) = HeaderValue::from_str(&self.status_url(&known.erasure.id)) {
            response.headers_mut().insert(header::LOCATION, url);
        }
        response
    }

    /// The description of the API.
    pub fn described(&self) -> Answer {
        answer(StatusCode::OK, &document(&self.base_url()))
    }
}

/// A preview of what would become of a request, and what of its proof is there.
#[derive(Debug)]
pub struct Previewed<'a> {
    /// What would happen.
    pub preview: &'a super::Preview,
    /// The plan.
    pub plan: &'a Arc<crate::config::DeletionPlan>,
    /// The operation, as the plan writes it.
    pub operation: &'a str,
    /// Whether it is the caller's own data.
    pub own: bool,
    /// The reasons why the proof would not be enough; empty: it would.
    pub lacks: Vec<&'static str>,
}

impl Previewed<'_> {
    /// It, as an answer.
    pub fn answer(&self, erasures: &Erasures) -> Answer {
        answer(StatusCode::OK, &self.value(erasures))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_path_and_method_alone() {
        for row in TABLE {
            let path = row.path.replace("{id}", "00112233445566778899aabbccddeeff");
            let (found, id) = find(&row.method, &path).unwrap().unwrap();
            assert_eq!((found.kind, id.is_empty()), (row.kind, !row.path.contains("{id}")), "{path}");
            assert!(find(&Method::PUT, &path).unwrap().unwrap_err().contains(&row.method), "{path}");
        }
        assert_eq!(find(&Method::HEAD, "/").unwrap().unwrap().0.kind, Kind::List);
        assert_eq!(find(&Method::POST, "/preview").unwrap().unwrap_err(), [Method::GET, Method::HEAD]);
    }

    #[test]
    fn a_path_that_is_nobodys_is_not_found() {
        for path in ["", "//", "/a/b", "/a/cancel/", "/a/b/cancel", "//cancel", "/a/CANCEL", "/link/a/b"] {
            assert!(find(&Method::POST, path).is_none(), "{path}");
        }
    }
}
