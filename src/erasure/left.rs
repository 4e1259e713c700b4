//! What a configuration without `deletions` would leave behind: deletions that nobody would carry out, and people who were erased and
//! whose tokens would pass again. Such a configuration is refused.

use super::{ledger::OPEN, record::Erasure, subject::SubjectRow};
use crate::{
    clock::Now,
    config::{Problem, Span},
    state,
    store::{Store, StoreFault, Table},
};

/// How many rows are read at once.
const PAGE: usize = 500;

/// Looks whether deletions can be left out of a configuration: whether the store knows of none that is open, and of nobody who is erased
/// or whose deletions are frozen.
///
/// # Errors
/// It cannot: a problem that says so. A store that cannot be read is as one that has some.
pub fn none_left(store: &Store, now: Now) -> Result<(), Problem> {
    let problem = |why: &str| {
        Problem::error(&Span::default(), format!("there is no section `deletions`, and {why}")).with_help(
            "keep the section, without plans if no more are to be asked for: `deletions: {url: https://…, plans: {}}`; then \
             `stepgate erasures list` shows what there is",
        )
    };
    match state::wait(is_any_left(store, now)) {
        Ok(false) => Ok(()),
        Ok(true) => Err(problem(
            "the store has deletions: those that are open would never be carried out, and tokens of people who are erased would pass",
        )),
        Err(fault) => Err(problem(&format!("it cannot be seen whether the store has deletions: {fault}"))),
    }
}

async fn is_any_left(store: &Store, now: Now) -> Result<bool, StoreFault> {
    if !store.page::<Erasure>(Table::Erasures, OPEN, None, 1, now).await?.is_empty() {
        return Ok(true);
    }
    let mut after: Option<String> = None;
    loop {
        let page = store.page::<SubjectRow>(Table::ErasureSubjects, "", after.as_deref(), PAGE, now).await?;
        if page.iter().any(|row| row.value.stays()) {
            return Ok(true);
        }
        match page.last() {
            Some(last) if page.len() >= PAGE => after = Some(last.key.clone()),
            Some(_) | None => return Ok(false),
        }
    }
}
