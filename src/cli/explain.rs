//! `stepgate explain`
use super::Exit;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {}
/// x
pub(crate) fn explain(_: &ExplainArgs) -> Exit {
    Exit::Failure
}
