//! The table of operations: method, path, who may call, and what is said of it in the OpenAPI document.

use http::Method;

use crate::authority::Fault;

/// An operation. Each has one row in the table and one arm where it is run: the compiler sees to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operations {
    /// The caller's factors, and the ways that are offered.
    Me,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Whoever has a valid credential.
    Credential,
    /// Anybody.
    Nothing,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Which one.
    pub operation: Operations,
    /// The method.
    pub method: Method,
    /// The path below the API's prefix; `{…}` stands for one segment, of which there may be one.
    pub path: &'static str,
    /// Who may call.
    pub needs: Needs,
    /// A line for the document.
    pub summary: &'static str,
}

/// Every operation.
pub const TABLE: &[Operation] = &[Operation {
    operation: Operations::Me,
    method: Method::GET,
    path: "/me",
    needs: Needs::Credential,
    summary: "The caller's factors, and the ways that are offered",
}];

/// The operation for a path below the prefix, and what stands in the place of its `{…}`.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Result<(Operations, &'p str), Fault> {
    let _ = TABLE;
    let _ = (method, path);
    Err(Fault::NotFound)
}
