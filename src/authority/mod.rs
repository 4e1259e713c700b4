//! The gateway's own second-factor authority: factors, who may enrol them, proofs and what they are good for. It sees calls and
//! principals, never sockets.

pub mod accounts;
mod admin;
pub mod api;
mod caller;
mod ceremony;
mod core;
mod elevation;
mod enrol;
mod fault;
mod forget;
mod found;
mod gate;
mod grant;
mod granting;
mod guess;
mod guessing;
mod keys;
mod levels;
mod observer;
mod owner;
mod pages;
pub mod passkey;
mod proof;
pub mod qr;
mod random;
mod records;
mod recovery;
mod sent;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod told;
mod totp;

pub use self::core::AuthorityMeans;
pub use admin::{Invitation, Listed, ResetState};
pub use caller::{Caller, Shown, Way};
pub use ceremony::{Answered, Begun, End, Finished, Purpose};
pub use elevation::ElevationShown;
pub use enrol::{Enrolled, EnrolmentBegun, Right, Wanted};
pub use fault::Fault;
pub use forget::forget_rows;
pub use grant::{BodyDigest, Grant, GrantBasis, GrantBinding, Target};
pub use granting::{Granted, TOKEN_TYPE as GRANT_TOKEN_TYPE, TYPE as GRANT_TYPE};
pub use keys::Keys;
pub use levels::Levels;
pub use observer::{Actor, AuthorityObserver, Change, Occasion, Outcome, Unobserved};
pub use owner::{Holder, Owner};
pub use pages::COOKIE as PAGES_COOKIE;
pub use proof::Proof;
pub use records::{EnrolledBy, FactorData, FactorRecord, Person};
pub use sent::{PushDetails, PushShown};

use std::sync::Arc;

use self::{
    accounts::{Accounts, AccountsMeans},
    core::Core,
    passkey::Passkeys,
};
use crate::{
    config::{self, Config, Materials, Problem},
    endpoint::{Answer, Call},
    store::Store,
};

/// The authority of one configuration.
#[derive(Debug)]
pub struct Authority {
    config: Arc<config::Authority>,
    levels: Levels,
    passkeys: Option<Passkeys>,
    accounts: Option<Accounts>,
    core: Arc<Core>,
}

impl Authority {
    /// Finds what is wrong with the authority's material, without starting or making anything: for `check`.
    pub fn check(config: &Config, materials: &dyn Materials) -> Vec<Problem> {
        let Some(authority) = &config.authority else { return Vec::new() };
        passkeys(authority).err().into_iter().chain(Accounts::check(authority, materials)).collect()
    }

    /// Prepares the authority, if there is to be one; what did not change since `previous` stays as it is. What is shared with `previous` goes on as that says, until [`Self::put_in_force`]: another room's problem may
    /// refuse the whole configuration yet.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        means: &AuthorityMeans<'_>,
        previous: Option<&Self>,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some(authority) = &config.authority else { return Ok(None) };
        let passkeys = passkeys(authority).map_err(|problem| vec![problem])?;
        // Before anything is opened or made.
        if let Some(problem) = Accounts::check(authority, materials) {
            return Err(vec![problem]);
        }
        let before = previous.map(|previous| &previous.core);
        let core = Core::open(authority, means, before).map_err(|problem| vec![problem])?;
        let accounts = AccountsMeans {
            store: core.store().clone(),
            outbox: core.state.outbox().clone(),
            observer: core.observer.clone(),
            keys: core.keys.clone(),
            ends: means.ends.clone(),
            published: means.published.clone(),
            handle: means.handle.clone(),
            clock: means.clock.clone(),
        };
        let before = previous.and_then(|previous| previous.accounts.as_ref());
        let accounts = Accounts::compile(authority, materials, accounts, before).map_err(|problem| vec![problem])?;
        let made = Self { levels: Levels::of(config), config: authority.clone(), passkeys, accounts, core };
        if previous.is_none() {
            made.put_in_force();
        }
        Ok(Some(made))
    }

    /// Puts it in force: elevations are worth what it says, keys are made as it asks.
    pub fn put_in_force(&self) {
        self.core.put_in_force(&self.config);
    }

    /// Stops what runs in the background, for good: another process goes on.
    pub fn let_go(&self) {
        self.core.let_go();
    }

    /// What it was compiled from.
    pub fn config(&self) -> &config::Authority {
        &self.config
    }

    /// The levels that are asked for anywhere.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        self.core.store()
    }

    /// The keys that sign grants and access tokens.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.core.keys
    }

    /// The accounts, where it keeps some.
    pub fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    /// Where its endpoints are, for whoever is told: the public origin and the path, without a final slash.
    pub fn base_url(&self) -> String {
        format!("{}{}", self.config.url.origin().ascii_serialization(), self.config.path)
    }
}

/// The relying party of a configuration.
fn passkeys(config: &config::Authority) -> Result<Option<Passkeys>, Problem> {
    let Some(passkey) = &config.passkey else { return Ok(None) };
    let origins: Vec<url::Url> = std::iter::once(&config.url).chain(&passkey.origins).cloned().collect();
    Passkeys::new(&passkey.rp_id, &passkey.rp_name, &origins, passkey.user_verification)
        .map(Some)
        .map_err(|fault| Problem::error(&config.span, fault.to_string()))
}
