//! `deletion_guard`: what protects deletions.

use super::AssuranceText;
use crate::config::{
    Problem,
    decode::{At, Cx, Decode, section},
    shape::Shape,
    text::{LimitText, OperationText},
    yaml::{Node, Value},
};

section! {
    /// What protects deletions, on every route, public ones too. A guarded operation always needs a token and this proof.
    "deletion_guard" DeletionGuard {
        /// Turns the guard off, on every route.
        danger_disabled: At<bool> = "false",
        /// The operations that are guarded, matched folded: any case, without `;params`, trailing `/`, `.` or space. A list of
        /// one's own replaces the default.
        operations: At<Vec<Operation>> = "[\"DELETE /**\"]",
        /// The proof that they need. Where a route has an assurance too, both hold: `acr` and `amr` lists intersect, the smaller
        /// `max_age` wins.
        assurance: AssuranceText = "{amr: [mfa], max_age: 5m}",
    }
}

section! {
    /// An operation and its own quota.
    "an operation" MatchedOperation {
        /// The operation: `METHOD /path`, or `* /path` for any method.
        r#match: At<OperationText>,
        /// Its quota, by issuer and subject: a rate; or the name of a limit.
        limit: Option<At<LimitText>>,
    }
}

/// An operation under the guard.
#[derive(Debug, Clone)]
pub(in crate::config) struct Operation {
    pub(in crate::config) matched: At<OperationText>,
    pub(in crate::config) limit: Option<At<LimitText>>,
}

impl Decode for Operation {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {
                let MatchedOperation { r#match: matched, limit, .. } = MatchedOperation::decode(node, cx)?;
                Some(Self { matched, limit })
            }
            Value::Scalar(_) | Value::Faulty => Some(Self { matched: At::decode(node, cx)?, limit: None }),
            Value::Null | Value::List(_) => {
                let span = cx.span(node.place);
                let problem = Problem::error(&span, "an operation is expected here");
                cx.report(problem.with_help("write `METHOD /path`, or {match: METHOD /path, limit: 3/10m}"));
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<OperationText as Decode>::shape(), MatchedOperation::shape()])
    }
}
