//! What the tests of this room share, and those that need a whole server on real sockets.
#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

use rustls::{crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer, sign::CertifiedKey};

use super::*;
use crate::body::Bounds;

pub(super) fn bounds() -> Bounds {
    let second = Duration::from_secs(1);
    Bounds {
        tls_handshake_timeout: 10 * second,
        header_timeout: 10 * second,
        keepalive_idle: 15 * second,
        body_idle_timeout: 10 * second,
        body_min_rate: 1024,
        write_stall_timeout: 25 * second,
        refused_body_timeout: 20 * second,
        refused_body_bytes: 1 << 20,
    }
}

pub(super) fn certified_key(names: &[&str]) -> CertifiedKey {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    CertifiedKey::from_der(vec![made.cert.der().clone()], key, &default_provider()).unwrap()
}
