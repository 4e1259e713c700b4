//! The challenges that are under way: what listeners have to show to a certificate authority, and for how long. They answer
//! nothing else by it, and to nobody who does not ask for exactly this.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs as provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The protocol that a certificate authority asks for (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where plain requests for challenges go (RFC 8555 §8.3).
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// The most that are under way at once: one certificate is ordered after the other, and has at most 100 names.
const MOST: usize = 256;

/// Why a challenge cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeFault {
    /// There are too many.
    #[error("more challenges than are ever needed are under way")]
    TooMany,
    /// What the authority named cannot be a token (RFC 8555 §8.3: base64url alone).
    #[error("the challenge's token is none")]
    Token,
    /// The certificate for it cannot be made.
    #[error("making the challenge's certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up for it.
    #[error("setting up TLS for the challenge")]
    Tls(#[from] rustls::Error),
}

/// The challenges that are under way; all listeners of a server share them.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Key authorizations by token.
    http: DashMap<Box<str>, Arc<str>>,
    /// By name, lower case.
    tls: DashMap<Box<str>, Arc<ServerConfig>>,
    /// How many of each: asked by every plain request and every handshake.
    http_count: AtomicUsize,
    tls_count: AtomicUsize,
}

/// A challenge that is shown for as long as this is held.
#[derive(Debug)]
pub struct Shown {
    challenges: Arc<Challenges>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Token(Box<str>),
    Name(Box<str>),
}

impl Challenges {
    /// Shows a key authorization at its token.
    ///
    /// # Errors
    /// When the token is none, or there are too many.
    pub fn show_http(self: &Arc<Self>, token: &str, authorization: &str) -> Result<Shown, ChallengeFault> {
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || token.len() > 256 || !token.bytes().all(is_base64url) {
            return Err(ChallengeFault::Token);
        }
        if self.http.len() >= MOST {
            return Err(ChallengeFault::TooMany);
        }
        self.http.insert(token.into(), authorization.into());
        self.http_count.store(self.http.len(), Ordering::Release);
        Ok(Shown { challenges: Arc::clone(self), key: Key::Token(token.into()) })
    }

    /// Shows a certificate with the digest of a key authorization to who asks for this name (RFC 8737 §3).
    ///
    /// # Errors
    /// When it cannot be made, or there are too many.
    pub fn show_tls(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Shown, ChallengeFault> {
        if digest.len() != 32 {
            return Err(ChallengeFault::Token);
        }
        if self.tls.len() >= MOST {
            return Err(ChallengeFault::TooMany);
        }
        let name: Box<str> = name.to_ascii_lowercase().into();
        self.tls.insert(name.clone(), Arc::new(tls_config(&name, digest)?));
        self.tls_count.store(self.tls.len(), Ordering::Release);
        Ok(Shown { challenges: Arc::clone(self), key: Key::Name(name) })
    }

    /// Whether any handshake may be an authority's.
    pub fn expect_handshakes(&self) -> bool {
        self.tls_count.load(Ordering::Acquire) > 0
    }

    /// What to go on with, if a handshake is an authority's: one that asks for a name and for this protocol alone.
    pub fn handshake<'a>(
        &self,
        name: Option<&str>,
        alpn: Option<impl Iterator<Item = &'a [u8]>>,
    ) -> Option<Arc<ServerConfig>> {
        let mut protocols = alpn?;
        if protocols.next() != Some(ACME_TLS) || protocols.next().is_some() {
            return None;
        }
        self.tls.get(&*name?.to_ascii_lowercase()).map(|config| Arc::clone(&config))
    }

    /// The answer to a plain request for this path, if it is an authority's.
    pub fn answer(&self, path: &str) -> Option<Arc<str>> {
        if self.http_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.http.get(path.strip_prefix(WELL_KNOWN)?).map(|authorization| Arc::clone(&authorization))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        match &self.key {
            Key::Token(token) => {
                self.challenges.http.remove(token);
                self.challenges.http_count.store(self.challenges.http.len(), Ordering::Release);
            }
            Key::Name(name) => {
                self.challenges.tls.remove(name);
                self.challenges.tls_count.store(self.challenges.tls.len(), Ordering::Release);
            }
        }
    }
}

/// TLS that shows the certificate of a challenge, speaks nothing, asks for no certificate and resumes nothing.
fn tls_config(name: &str, digest: &[u8]) -> Result<ServerConfig, ChallengeFault> {
    let mut params = rcgen::CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let crypto = Arc::new(provider::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not checked against each other by rustls: it does not know the critical extension that makes it a challenge's.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], crypto.key_provider.load_private_key(private)?);
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_key_authorization_is_shown_at_its_token_alone_and_while_it_is_held() {
        let challenges = Arc::<Challenges>::default();
        let shown = challenges.show_http("a-token_1", "a-token_1.thumb").unwrap();
        assert_eq!(challenges.answer("/.well-known/acme-challenge/a-token_1").as_deref(), Some("a-token_1.thumb"));
        for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/a-token_1/", "/a-token_1", "/x"] {
            assert_eq!(challenges.answer(path), None, "{path}");
        }
        for token in ["", "a/b", "..", "a%2e", "a b"] {
            assert!(challenges.show_http(token, "x").is_err(), "{token}");
        }
        drop(shown);
        assert_eq!(challenges.answer("/.well-known/acme-challenge/a-token_1"), None);
    }

    #[test]
    fn a_certificate_of_a_challenge_is_for_who_asks_for_its_protocol_alone() {
        let challenges = Arc::<Challenges>::default();
        let ask = |name: Option<&str>, alpn: &[&'static [u8]]| {
            challenges.handshake(name, Some(alpn.iter().copied())).is_some()
        };
        let shown = challenges.show_tls("A.example", &[7; 32]).unwrap();
        assert!(challenges.expect_handshakes());
        assert!(ask(Some("a.EXAMPLE"), &[ACME_TLS]));
        assert!(!ask(Some("b.example"), &[ACME_TLS]) && !ask(None, &[ACME_TLS]));
        assert!(!ask(Some("a.example"), &[]) && !ask(Some("a.example"), &[b"h2"]));
        assert!(!ask(Some("a.example"), &[ACME_TLS, b"h2"]) && !ask(Some("a.example"), &[b"h2", ACME_TLS]));
        assert!(challenges.handshake(Some("a.example"), None::<std::iter::Empty<&[u8]>>).is_none());
        drop(shown);
        assert!(!challenges.expect_handshakes() && !ask(Some("a.example"), &[ACME_TLS]));
    }

    #[test]
    fn there_is_a_bound() {
        let challenges = Arc::<Challenges>::default();
        let held: Vec<_> = (0..MOST).map(|n| challenges.show_http(&format!("t{n}"), "x").unwrap()).collect();
        assert!(matches!(challenges.show_http("more", "x"), Err(ChallengeFault::TooMany)));
        drop(held);
        assert!(challenges.show_http("more", "x").is_ok());
    }
}
