//! The keys of session tickets (RFC 5077 §5.5), which turn. A ticket is opened for as long as its key is the one in use or the one before
//! it, so for two periods at most, and no longer where nobody came meanwhile: who turns its keys only once a handshake, however long
//! ago the last one was, opens a ticket of any age.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{crypto::aws_lc_rs::Ticketer, server::ProducesTickets};

/// How long a key makes tickets. Half of a working day: who is stolen one has what clients did in that time, and before it.
pub(super) const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);

/// The keys of one listener.
pub(super) struct TicketKeys {
    period: Duration,
    keys: Mutex<Keys>,
}

#[derive(Clone)]
struct Keys {
    since: Instant,
    /// `None`: there was no randomness to make it of. Then there are no tickets.
    current: Option<Key>,
    previous: Option<Key>,
}

/// Turned out of use before it would turn by itself.
type Key = Arc<dyn ProducesTickets>;

impl TicketKeys {
    /// Keys that turn each `period`.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn new(period: Duration, now: Instant) -> Result<Self, rustls::Error> {
        let keys = Keys { since: now, current: Some(Ticketer::new()?), previous: None };
        Ok(Self { period, keys: Mutex::new(keys) })
    }

    /// The keys by now.
    fn at(&self, now: Instant) -> Keys {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(keys.since);
        if age >= self.period {
            let one_before = keys.current.take().filter(|_| age < 2 * self.period);
            *keys = Keys { since: now, current: Ticketer::new().ok(), previous: one_before };
        }
        keys.clone()
    }

    fn encrypt_at(&self, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.at(now).current?.encrypt(plain)
    }

    fn decrypt_at(&self, cipher: &[u8], now: Instant) -> Option<Vec<u8>> {
        let keys = self.at(now);
        [keys.current, keys.previous].into_iter().flatten().find_map(|key| key.decrypt(cipher))
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("period", &self.period).finish_non_exhaustive()
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.period.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, Instant::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, Instant::now())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn keys_turn_and_a_ticket_ends_with_the_second_turn_after_it() {
        let start = Instant::now();
        let keys = TicketKeys::new(PERIOD, start).unwrap();
        let ticket = keys.encrypt_at(b"a session", start + 5 * HOUR).unwrap();
        let opened = |ticket: &[u8], hours: u32| keys.decrypt_at(ticket, start + hours * HOUR);
        assert_eq!(opened(&ticket, 5).as_deref(), Some(&b"a session"[..]));
        assert_eq!(opened(&ticket, 7).as_deref(), Some(&b"a session"[..]), "its key is the one before");
        let next = keys.encrypt_at(b"another", start + 8 * HOUR).unwrap();
        assert_eq!(opened(&ticket, 14), None);
        assert_eq!(opened(&next, 14).as_deref(), Some(&b"another"[..]));
        assert_eq!(opened(&next, 21), None);
    }

    #[test]
    fn an_old_ticket_ends_although_nobody_came_meanwhile() {
        let start = Instant::now();
        for (hours, ends) in [(11, false), (12, true), (13, true), (1000, true)] {
            let keys = TicketKeys::new(PERIOD, start).unwrap();
            let ticket = keys.encrypt_at(b"a session", start).unwrap();
            assert_eq!(keys.decrypt_at(&ticket, start + hours * HOUR).is_none(), ends, "{hours}");
        }
    }

    #[test]
    fn what_is_no_ticket_of_these_keys_is_not_opened() {
        let now = Instant::now();
        let [keys, others] = [0, 1].map(|_| TicketKeys::new(PERIOD, now).unwrap());
        let mut ticket = keys.encrypt_at(b"a session", now).unwrap();
        assert_eq!(others.decrypt_at(&ticket, now), None, "another listener's");
        *ticket.last_mut().unwrap() ^= 1;
        assert_eq!(keys.decrypt_at(&ticket, now), None);
        assert_eq!(keys.decrypt_at(b"", now), None);
    }
}
