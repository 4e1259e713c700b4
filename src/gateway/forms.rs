//! How much of bodies one worker holds at once: forms in which a method may stand, and what a grant is bound to. Forms are read
//! before anything is known of their senders, so that what counts is what a client has really sent, and no client can take the
//! room of all others.

use std::{cell::RefCell, collections::HashMap, net::IpAddr};

use bytes::Bytes;

use super::{Refusal, faults::body_refusal};
use crate::{
    body::{RequestBody, Unread},
    policy::Reason,
    subscriber::Subscriber,
};

/// What all forms of one worker may take together.
const ALL_BYTES: usize = 64 << 20;

/// What the forms of one client may take together: an eighth, so that a few clients leave room for others.
const CLIENT_BYTES: usize = ALL_BYTES / 8;

/// The forms that one worker holds.
#[derive(Debug, Default)]
pub(super) struct Forms(RefCell<HashMap<Subscriber, usize>>);

/// One form that is held, as far as it has been read.
#[derive(Debug)]
pub(super) struct HeldForm<'a> {
    forms: &'a Forms,
    client: Subscriber,
    /// The longest that it may become; one such form has room however little that is for others.
    longest: usize,
    bytes: usize,
    content: Bytes,
}

impl Forms {
    /// Reads a form whole, as far as there is room for it, and puts it back as the body to forward.
    pub(super) async fn read(
        &self,
        body: &mut RequestBody,
        client: IpAddr,
        max: usize,
    ) -> Result<HeldForm<'_>, Refusal> {
        if hyper::body::Body::size_hint(body).lower() > max as u64 {
            return Err(Refusal::of(Reason::BodyTooLarge));
        }
        let mut held = self.hold(client, max);
        let taken = std::mem::replace(body, RequestBody::buffered(Bytes::new()));
        let bytes = taken.read_gradually(max as u64, |more| held.grow(more)).await.map_err(|why| match why {
            Unread::Fault(fault) => body_refusal(fault),
            Unread::Refused(refusal) => refusal,
        })?;
        *body = RequestBody::buffered(bytes.clone());
        held.content = bytes;
        Ok(held)
    }

    /// Begins to hold a form of `client`, of at most `longest` bytes.
    fn hold(&self, client: IpAddr, longest: usize) -> HeldForm<'_> {
        HeldForm { forms: self, client: Subscriber::of(client), longest, bytes: 0, content: Bytes::new() }
    }
}

impl HeldForm<'_> {
    /// The whole of it.
    pub(super) fn content(&self) -> &Bytes {
        &self.content
    }

    /// Makes room for `more` bytes.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        let mut held = self.forms.0.borrow_mut();
        let all = held.values().sum::<usize>().saturating_add(more);
        let of_client = held.get(&self.client).copied().unwrap_or_default().saturating_add(more);
        if all > ALL_BYTES.max(self.longest) || of_client > CLIENT_BYTES.max(self.longest) {
            let mut refusal = Refusal::of(Reason::Overloaded);
            refusal.retry_after = Some(1);
            return Err(refusal);
        }
        held.insert(self.client, of_client);
        self.bytes = self.bytes.saturating_add(more);
        Ok(())
    }
}

impl Drop for HeldForm<'_> {
    fn drop(&mut self) {
        let mut held = self.forms.0.borrow_mut();
        if let Some(of_client) = held.get_mut(&self.client) {
            *of_client = of_client.saturating_sub(self.bytes);
            if *of_client == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    const MIB: usize = 1 << 20;

    fn client(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_form_that_is_only_promised_takes_no_room() {
        let forms = Forms::default();
        let _promised: Vec<_> = (0..1000).map(|_| forms.hold(client("192.0.2.1"), MIB)).collect();
        assert!(forms.hold(client("192.0.2.1"), MIB).grow(MIB).is_ok());
    }

    #[test]
    fn one_client_leaves_room_for_others_and_gives_its_own_back() {
        let forms = Forms::default();
        let mut held = Vec::new();
        for host in 0..20 {
            let mut form = forms.hold(client(&format!("2001:db8::{host}")), MIB);
            if form.grow(MIB).is_ok() {
                held.push(form);
            }
        }
        assert_eq!(held.len(), 8);
        assert!(forms.hold(client("192.0.2.1"), MIB).grow(MIB).is_ok());
        drop(held);
        assert!(forms.0.borrow().is_empty());
    }

    #[test]
    fn all_clients_together_are_bounded() {
        let forms = Forms::default();
        let mut held: Vec<_> = (0..100).map(|host| forms.hold(client(&format!("192.0.2.{host}")), MIB)).collect();
        assert_eq!(held.iter_mut().filter_map(|form| form.grow(MIB).ok()).count(), 64);
    }

    #[test]
    fn a_form_may_be_as_long_as_is_configured() {
        let forms = Forms::default();
        assert!(forms.hold(client("192.0.2.1"), 128 * MIB).grow(128 * MIB).is_ok());
    }
}
