//! User names and passwords: what the file says fits together.

use std::{sync::Arc, time::Duration};

use super::Context;
use crate::config::{Basic, ListenerMode, Lockout, document};

/// A longer one would only keep what could be stolen from memory.
const LONGEST_CACHE: Duration = Duration::from_secs(3600);
/// A longer one is a user to be removed.
const LONGEST_LOCK: Duration = Duration::from_secs(366 * 86_400);

pub(super) fn basic(name: &Arc<str>, written: &document::Basic, listens_with_tls: bool, to: &mut Context<'_>) -> Basic {
    let cleartext = &written.danger_cleartext;
    if cleartext.value {
        let message = "`danger_cleartext`: passwords can be read on the way";
        to.warn(&cleartext.span, message, "leave it out unless a proxy before the gateway speaks TLS to the clients");
    } else if !listens_with_tls {
        let message = "passwords are refused without TLS, and no listener has `tls`: nobody can use this source";
        to.warn(&written.span, message, "give a listener `tls`");
    }
    let cache = &written.cache;
    if cache.value.0 > LONGEST_CACHE {
        to.error(&cache.span, "a password is known for an hour at most");
    }
    Basic {
        file: to.file(&written.file),
        realm: written.realm.as_ref().map_or_else(|| Arc::clone(name), |realm| realm.0.as_str().into()),
        scopes: written.scopes.iter().map(|scope| Arc::from(scope.0.as_str())).collect(),
        concurrent: written.concurrent.get(),
        queue: written.queue.get(),
        cache: cache.value.0,
        lockout: lockout(&written.lockout, to),
        danger_cleartext: cleartext.value,
    }
}

fn lockout(written: &document::Lockout, to: &mut Context<'_>) -> Lockout {
    let (first, longest) = (&written.first, &written.longest);
    if first.value > longest.value {
        to.error(&first.span, "the first lock is longer than the longest");
    }
    if longest.value > LONGEST_LOCK {
        to.error(&longest.span, "a lock lasts a year at most");
    }
    Lockout {
        failures: u32::try_from(written.failures.0).unwrap_or(u32::MAX),
        first: first.value,
        longest: longest.value,
        per_user: (written.per_user.count, written.per_user.period),
        per_address: (written.per_address.count, written.per_address.period),
        familiar: written.familiar.iter().map(|network| network.0).collect(),
    }
}

/// Whether any listener serves the gateway over TLS; said of listeners that were read.
pub(super) fn any_tls(listeners: &[crate::config::Listener]) -> bool {
    listeners.iter().any(|listener| matches!(listener.mode, ListenerMode::Tls(_)))
}
