//! What is asked before a deletion is taken on: values that its steps and notices need, while the data is still there to say them.

use std::collections::BTreeMap;

use super::{
    call::{Answered, Key},
    calls::Calls,
    values::Known,
};
use crate::config::Terms;

/// Why a deletion is not taken on. Nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupFault {
    /// A service says that there is nothing to erase.
    #[error("a lookup found nothing")]
    Absent,
    /// A service could not be asked, or said nothing that can be used.
    #[error("a lookup failed")]
    Failed,
}

/// Asks what the terms want to be asked, in their order, and puts what was captured beside the other values.
pub(super) async fn look_up(
    calls: &Calls,
    terms: &Terms,
    (deletion, subject): (&str, &str),
    values: &mut BTreeMap<Box<str>, Box<str>>,
) -> Result<(), LookupFault> {
    for call in &terms.lookups {
        let (name, upstream) = (&*call.name, &*call.upstream);
        let failed = |why: &dyn std::fmt::Display| {
            tracing::warn!(plan = &*terms.plan, lookup = name, upstream, why = %why, "a lookup failed: no deletion was made");
            LookupFault::Failed
        };
        let answered =
            calls.look_up(call, &Known { deletion, subject, values }, Key { deletion, name, again: 0 }).await;
        match answered.map_err(|fault| failed(&fault))? {
            Answered { status: 404 | 410, .. } => return Err(LookupFault::Absent),
            Answered { status: 200..=299, lacks_values: false, captured, .. } => {
                values.extend(captured.into_iter().map(|(name, value)| (format!("captured.{name}").into(), value)));
            }
            Answered { status: 200..=299, .. } => return Err(failed(&"the answer lacks a value")),
            Answered { status, .. } => return Err(failed(&format!("the answer's status is {status}"))),
        }
    }
    Ok(())
}
