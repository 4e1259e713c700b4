//! The gateway's own second-factor authority: factors, who may enrol them, proofs and what they are good for. It sees calls and
//! principals, never sockets.

pub mod accounts;
mod admin;
mod api;
mod call;
mod caller;
mod ceremony;
mod elevation;
mod enrol;
mod fault;
mod gate;
mod grant;
mod guess;
mod levels;
mod messenger;
mod observer;
mod owner;
pub mod passkey;
mod proof;
pub mod qr;
mod random;
mod records;
mod recovery;
mod totp;

pub use admin::{Invitation, Listed, ResetState};
pub use call::{Answer, Call, Refused};
pub use caller::{Caller, Shown, Way};
pub use ceremony::{Answered, Begun, End, Finished, Purpose};
pub use elevation::ElevationShown;
pub use enrol::{Enrolled, EnrolmentBegun, Right, Wanted};
pub use fault::Fault;
pub use grant::{BodyDigest, Grant, GrantBinding, Target};
pub use levels::Levels;
pub use messenger::Messenger;
pub use observer::{Actor, AuthorityObserver, Change, Occasion, Outcome, Unobserved};
pub use owner::{Holder, Owner};
pub use proof::Proof;
pub use records::{EnrolledBy, FactorData, FactorRecord, Person};

use std::{path::Path, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    clock::Clock,
    config::{self, Config, Materials, Problem},
};

/// The authority of one configuration.
#[derive(Debug)]
pub struct Authority {
    config: Arc<config::Authority>,
    levels: Levels,
}

/// What compiling needs besides the configuration.
#[derive(Clone, Copy)]
pub struct AuthorityMeans<'a> {
    /// The runtime of background work.
    pub handle: &'a Handle,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// Where durable state lives.
    pub state_dir: &'a Path,
}

impl Authority {
    /// Finds what is wrong with the authority's material, without starting or making anything: for `check`.
    pub fn check(_config: &Config, _materials: &dyn Materials) -> Vec<Problem> {
        Vec::new()
    }

    /// Prepares the authority, if there is to be one; what did not change since `previous` stays as it is, the store above all,
    /// which is opened once. With a problem nothing was started and nothing has changed.
    pub fn compile(
        config: &Config,
        _materials: &dyn Materials,
        _means: &AuthorityMeans<'_>,
        _previous: Option<&Self>,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some(authority) = &config.authority else { return Ok(None) };
        Ok(Some(Self { config: authority.clone(), levels: Levels::of(config) }))
    }

    /// What it was compiled from.
    pub fn config(&self) -> &config::Authority {
        &self.config
    }

    /// The levels that are asked for anywhere.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }
}
