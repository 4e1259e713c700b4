//! What systemd is told of the process (sd_notify(3)): nothing, where there is none. Being told is no condition of anything, so a word
//! that is lost is not an error.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::server::Server;

/// It serves; it is the main process of its unit, also where another one was before.
pub(super) fn ready(listening: &str) {
    let status = format!("serving on {listening}");
    let _ = sd_notify::notify(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Status(&status),
        NotifyState::Ready,
    ]);
}

/// It reads its configuration again; the same call ends it.
pub(super) fn reloading<T>(reload: impl FnOnce() -> T) -> T {
    // `Type=notify-reload` asks for the time along with it, so that it knows which reload is meant.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
    }
    let done = reload();
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    done
}

/// It drains, and will end.
pub(super) fn stopping(timeout: Duration) {
    let status = format!("draining, for {} s at most", timeout.as_secs());
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// How often systemd wants to hear that it lives; half of what it waits for (sd_watchdog_enabled(3)).
pub(super) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|period| !period.is_zero())
}

/// Says that it lives, if every worker has done something since the last time.
pub(super) fn live(server: &Server, before: &mut Vec<u64>) {
    let beats = server.beats();
    let stands_still = before.len() == beats.len() && beats.iter().zip(&*before).any(|(now, before)| now == before);
    *before = beats;
    if stands_still {
        tracing::error!("a worker stands still: systemd is not told that all is well");
    } else {
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
