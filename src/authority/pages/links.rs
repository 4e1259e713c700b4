//! Links that a token's holder asks for, to be opened in a browser: the credential itself never gets there.

use serde::Serialize;
use url::Url;

use super::{
    Pages,
    session::{Errand, SESSION_SECS, Session},
};
use crate::{
    authority::{Authority, Call, Fault},
    config,
};

/// How long a link may be opened.
const LINK_SECS: u64 = 60;
/// The longest address to go back to.
const RETURN_BYTES: usize = 2000;
/// The longest `state`, as in OAuth's.
const STATE_BYTES: usize = 512;

/// A link that somebody asks for.
#[derive(Clone)]
pub(in crate::authority) struct LinkWanted {
    /// What the browser is let in for.
    pub(in crate::authority) errand: Errand,
    /// Where it goes in the end; `None`: it stays, and is shown the code.
    pub(in crate::authority) return_to: Option<String>,
    /// What it takes back along.
    pub(in crate::authority) state: Option<String>,
    /// An invitation, for who enrols the first factor.
    pub(in crate::authority) invitation: Option<String>,
}

/// A link that was made.
#[derive(Clone, Serialize)]
pub(in crate::authority) struct PageLink {
    /// To be opened once.
    pub(in crate::authority) url: String,
    /// Until when it may be opened, in seconds since the epoch.
    pub(in crate::authority) expires_at: u64,
}

impl Authority {
    /// Makes a link for the holder of the credential that came with a call.
    pub(in crate::authority) async fn page_link(&self, call: &Call<'_>, wanted: LinkWanted) -> Result<PageLink, Fault> {
        let caller = self.caller_of(call)?;
        let config = self.config();
        let return_to = wanted.return_to.as_deref().map(|to| return_to(config, to)).transpose()?;
        if let Errand::StepUp { level } | Errand::Grant { level } = &wanted.errand
            && self.levels().get(level).is_none()
        {
            return Err(Fault::Call("There is no level of this name."));
        }
        let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > STATE_BYTES);
        if is_long(&wanted.state) || is_long(&wanted.invitation) {
            return Err(Fault::Call("`state` and `invitation` have 512 bytes at most."));
        }
        let now = call.now.unix_secs();
        let principal = call.principal.ok_or(Fault::Anonymous)?;
        // No longer than the credential: who may not call any more may not change factors, either.
        let credential = principal.expires_at.map_or(u64::MAX, |at| at.max(0.0) as u64);
        let session = Session {
            caller,
            errand: wanted.errand,
            return_to: return_to.map(String::from),
            state: wanted.state,
            client: principal.client.as_deref().map(str::to_owned),
            invitation: wanted.invitation,
            proof: None,
            account: None,
            until: now.saturating_add(SESSION_SECS).min(credential),
        };
        let expires_at = now.saturating_add(LINK_SECS).min(session.until);
        let ticket = Pages::of(self).ticket(&session, expires_at, call.now).await?;
        let origin = config.url.origin().ascii_serialization();
        Ok(PageLink { url: format!("{origin}{}/open?ticket={ticket}", config.path), expires_at })
    }
}

/// An address to go back to, if its origin is exactly one of the configuration's.
pub(super) fn return_to(config: &config::Authority, text: &str) -> Result<Url, Fault> {
    let refused = Fault::Call("`return_to` is an absolute URL of an origin that the configuration lists.");
    // What browsers read otherwise than the parser here (white space, controls, backslashes) is not guessed at.
    if text.len() > RETURN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(refused);
    }
    let url = Url::parse(text).map_err(|_| refused.clone())?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let is_listed = config.return_to.iter().any(|origin| origin.origin() == url.origin());
    if is_plain && is_listed && url.origin().is_tuple() { Ok(url) } else { Err(refused) }
}

/// The address to go back to, with what is handed over. It is in the query: a fragment would survive a redirection of the
/// app's to somewhere else, and could not be read by an app that keeps its token on a server. The code is good for the
/// token's holder alone, once, for two minutes, so that a log it stands in gives nothing away.
pub(super) fn handed_back(to: &str, state: Option<&str>, name: &str, value: &str) -> Option<String> {
    let mut url = Url::parse(to).ok()?;
    url.query_pairs_mut().append_pair(name, value);
    if let Some(state) = state {
        url.query_pairs_mut().append_pair("state", state);
    }
    Some(url.into())
}
