//! The table of operations: method, path, who may call, and what is said of it in the OpenAPI document. Calls are dispatched
//! from it and the document is made of it, so that neither has what the other lacks.

use http::Method;

use crate::authority::Fault;

/// Below `authority.path`: where the JSON API is.
pub const PREFIX: &str = "/api/v1";

macro_rules! operations {
    ($($(#[doc = $doc:literal])+ $variant:ident: $method:ident $path:literal, $needs:ident;)+) => {
        /// An operation. Each has one row in the table and one arm where it is run: the compiler sees to both.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[doc = $doc])+ $variant),+ }

        /// Every operation.
        pub const TABLE: &[Operation] = &[$(Operation {
            kind: Kind::$variant, method: Method::$method, path: $path, needs: Needs::$needs, summary: concat!($($doc),+),
        }),+];
    };
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Whoever has a valid credential of an issuer that the authority serves.
    Credential,
    /// Anybody.
    Nothing,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Which one.
    pub kind: Kind,
    /// The method.
    pub method: Method,
    /// The path below `authority.path`; `{id}` stands for one segment.
    pub path: &'static str,
    /// Who may call.
    pub needs: Needs,
    /// A line for the document.
    pub summary: &'static str,
}

operations! {
    /// The caller's factors, and the ways that are offered.
    Me: GET "/api/v1/me", Credential;
    /// Begins a challenge.
    Challenge: POST "/api/v1/challenges", Credential;
    /// Answers a challenge.
    Verify: POST "/api/v1/challenges/{id}/verify", Credential;
    /// Begins to enrol a factor.
    Enrol: POST "/api/v1/factors", Credential;
    /// Confirms a factor that is being enrolled.
    Confirm: POST "/api/v1/factors/{id}/confirm", Credential;
    /// Renames a factor.
    Rename: PATCH "/api/v1/factors/{id}", Credential;
    /// Removes a factor.
    Remove: DELETE "/api/v1/factors/{id}", Credential;
    /// Makes a new set of recovery codes.
    RecoveryCodes: POST "/api/v1/recovery-codes", Credential;
    /// The elevations of the credential.
    Elevations: GET "/api/v1/elevations", Credential;
    /// Elevates the credential by the code that a page ended in.
    Elevate: POST "/api/v1/elevations", Credential;
    /// Ends the elevations of the credential.
    StepDown: DELETE "/api/v1/elevations", Credential;
    /// Makes a link that opens the authority's pages in a browser, once.
    PageLink: POST "/api/v1/page-links", Credential;
    /// What an approval is asked for, for the device that decides.
    PushShown: POST "/api/v1/push/details", Nothing;
    /// Approves or refuses.
    PushDecide: POST "/api/v1/push", Nothing;
    /// Exchanges the caller's token and a proof for a grant (RFC 8693).
    Token: POST "/token", Credential;
    /// This description.
    OpenApi: GET "/openapi.json", Nothing;
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// An operation, and what stands in the place of its `{id}`.
    Operation(&'static Operation, &'p str),
    /// A browser asks what another origin's page may do here (Fetch §3.2.2).
    Preflight(&'static [Method]),
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Operation {}

/// Whether a path is a pattern's, and what stands in the place of `{id}`.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = pattern.split_once("{id}") else { return (pattern == path).then_some("") };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && id.len() <= 128 && !id.contains('/')).then_some(id)
}

/// The methods of a path, for `Allow`: what a call may be is known when it is compiled.
fn methods(path: &str) -> &'static [Method] {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    const GET_POST: &[Method] = &[Method::GET, Method::POST];
    const CHANGE: &[Method] = &[Method::PATCH, Method::DELETE];
    const ALL: &[Method] = &[Method::GET, Method::POST, Method::DELETE];
    const NONE: &[Method] = &[];
    let has = |method: &Method| TABLE.iter().any(|row| row.method == *method && matched(row.path, path).is_some());
    [GET, POST, GET_POST, CHANGE, ALL]
        .into_iter()
        .find(|set| {
            [Method::GET, Method::POST, Method::PATCH, Method::DELETE].iter().all(|m| set.contains(m) == has(m))
        })
        .unwrap_or(NONE)
}

/// What a call is for; `None`: no operation has its path.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Option<Result<Route<'p>, Fault>> {
    let methods = methods(path);
    if methods.is_empty() {
        return None;
    }
    if *method == Method::OPTIONS {
        return Some(Ok(Route::Preflight(methods)));
    }
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let rows = TABLE.iter().filter(|row| row.method == *method);
    let found = rows.filter_map(|row| Some(Route::Operation(row, matched(row.path, path)?))).next();
    Some(found.ok_or(Fault::Method(methods)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Paths are recorded, and whoever has the number of an operation that anybody may call may do what it is for.
    #[test]
    fn no_path_is_a_secret() {
        for row in TABLE.iter().filter(|row| row.needs == Needs::Nothing) {
            assert!(!row.path.contains("{id}"), "{}", row.path);
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path_and_method_alone() {
        for row in TABLE {
            let path = row.path.replace("{id}", "abc-123_X");
            let found = find(&row.method, &path).unwrap().unwrap();
            let id = if row.path.contains("{id}") { "abc-123_X" } else { "" };
            assert_eq!(found, Route::Operation(row, id), "{}", row.path);
            let methods = methods(&path);
            assert!(methods.contains(&row.method), "{} has its methods listed", row.path);
            assert_eq!(find(&Method::PUT, &path).unwrap(), Err(Fault::Method(methods)));
            assert_eq!(find(&Method::OPTIONS, &path).unwrap().unwrap(), Route::Preflight(methods));
        }
    }

    #[test]
    fn a_path_that_is_nobodys_is_not_found() {
        for path in ["", "/", "/api/v1", "/api/v1/me/", "/api/v1/challenges//verify", "/api/v1/challenges/a/b/verify"] {
            assert!(find(&Method::GET, path).is_none() && find(&Method::OPTIONS, path).is_none(), "{path}");
        }
    }

    #[test]
    fn no_two_rows_answer_one_call() {
        for row in TABLE {
            let path = row.path.replace("{id}", "x");
            let all = TABLE.iter().filter(|other| other.method == row.method && matched(other.path, &path).is_some());
            assert_eq!(all.count(), 1, "{path}");
        }
    }
}
