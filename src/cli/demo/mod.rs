//! `stepgate demo`
use super::Exit;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {}
/// x
pub(crate) fn demo(_: &DemoArgs) -> Exit {
    Exit::Failure
}
