//! The certificates that a client showed in the TLS handshake. They stay as long as the connection does, and so does what
//! was learnt from them: judging a chain takes signatures, and it is there on every request.

use std::{any::Any, cell::RefCell, fmt, rc::Rc};

use aws_lc_rs::digest;

/// The certificates that a client showed, DER, its own first (RFC 8446 §4.4.2). The handshake has proved that the client
/// holds the key of its own, and that the listener's authorities vouched for it when the session began.
pub struct ClientCertificate {
    leaf: Box<[u8]>,
    above: Box<[Box<[u8]>]>,
    fingerprint: [u8; 32],
    memo: RefCell<Option<Rc<dyn Any>>>,
}

impl ClientCertificate {
    /// The certificates of a handshake; `None` where there are none.
    pub fn new<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut chain = chain.into_iter().map(Box::from);
        let leaf: Box<[u8]> = chain.next()?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, &leaf).as_ref());
        Some(Self { leaf, above: chain.collect(), fingerprint, memo: RefCell::default() })
    }

    /// The client's own.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Those that it sent to lead from its own to an authority, in its order.
    pub fn above(&self) -> impl Iterator<Item = &[u8]> {
        self.above.iter().map(|certificate| &**certificate)
    }

    /// SHA-256 of the client's own (`x5t#S256`, RFC 8705 §3.1).
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// What was last remembered of it, if that is of this kind.
    pub fn recall<T: 'static>(&self) -> Option<Rc<T>> {
        self.memo.borrow().clone()?.downcast().ok()
    }

    /// Keeps what was learnt of it, in place of what was before.
    pub fn remember<T: 'static>(&self, memo: Rc<T>) {
        *self.memo.borrow_mut() = Some(memo);
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("above", &self.above.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_recalled_as_what_it_was_remembered_as_alone() {
        let shown = ClientCertificate::new([&b"leaf"[..], b"above"]).unwrap();
        assert_eq!((shown.leaf(), shown.above().count()), (&b"leaf"[..], 1));
        assert!(shown.recall::<u32>().is_none());
        shown.remember(Rc::new(7_u32));
        assert_eq!(shown.recall::<u32>().as_deref(), Some(&7));
        assert!(shown.recall::<u64>().is_none());
        assert!(ClientCertificate::new([]).is_none());
    }
}
