//! Where an issuer is asked: a URL of the configuration, or the one that its metadata names.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{
    super::key_place::{metadata_url, named_url},
    Fault,
};
use crate::{client::Fetcher, clock::Clock};

/// How long metadata is believed without being read again.
const METADATA_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// After a failure, how long what was found before is taken without trying again.
const METADATA_PAUSE: Duration = Duration::from_secs(10);

/// Where an issuer is asked.
pub(super) enum Endpoint {
    Fixed(Arc<Url>),
    Discovered(Box<Discovery>),
}

/// Metadata, read when it is first needed.
pub(super) struct Discovery {
    metadata: Url,
    issuer: Arc<str>,
    /// Whether the client proves who it is by a certificate, for which an issuer may have another address.
    mutual: bool,
    found: ArcSwapOption<Found>,
    turn: Mutex<()>,
}

struct Found {
    url: Arc<Url>,
    until: Instant,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    introspection_endpoint: Option<String>,
    mtls_endpoint_aliases: Option<Aliases>,
}

/// RFC 8705 §5.
#[derive(Deserialize)]
struct Aliases {
    introspection_endpoint: Option<String>,
}

impl Endpoint {
    /// `None`: the issuer's identifier has no metadata.
    pub(super) fn new(url: Option<&Url>, issuer: &Arc<str>, mutual: bool) -> Option<Self> {
        if let Some(url) = url {
            return Some(Self::Fixed(Arc::new(url.clone())));
        }
        Some(Self::Discovered(Box::new(Discovery {
            metadata: metadata_url(issuer)?,
            issuer: Arc::clone(issuer),
            mutual,
            found: ArcSwapOption::empty(),
            turn: Mutex::new(()),
        })))
    }

    /// The endpoint's address.
    pub(super) async fn url(&self, fetcher: &Fetcher, clock: &dyn Clock) -> Result<Arc<Url>, Fault> {
        match self {
            Self::Fixed(url) => Ok(Arc::clone(url)),
            Self::Discovered(discovery) => discovery.url(fetcher, clock).await,
        }
    }
}

impl Discovery {
    async fn url(&self, fetcher: &Fetcher, clock: &dyn Clock) -> Result<Arc<Url>, Fault> {
        let fresh = || self.found.load_full().filter(|found| clock.instant() < found.until);
        if let Some(found) = fresh() {
            return Ok(Arc::clone(&found.url));
        }
        let _turn = self.turn.lock().await;
        if let Some(found) = fresh() {
            return Ok(Arc::clone(&found.url));
        }
        let (result, lifetime) = match self.read(fetcher).await {
            Ok(url) => (Ok(Arc::new(url)), METADATA_LIFETIME),
            Err(fault) => (self.found.load().as_ref().map(|found| Arc::clone(&found.url)).ok_or(fault), METADATA_PAUSE),
        };
        if let (Ok(url), Some(until)) = (&result, clock.instant().checked_add(lifetime)) {
            self.found.store(Some(Arc::new(Found { url: Arc::clone(url), until })));
        }
        result
    }

    async fn read(&self, fetcher: &Fetcher) -> Result<Url, Fault> {
        let answer = fetcher.get(&self.metadata).await.map_err(Fault::Metadata)?;
        self.endpoint(&answer.body)
    }

    fn endpoint(&self, body: &[u8]) -> Result<Url, Fault> {
        let metadata: Metadata = serde_json::from_slice(body).map_err(|_| Fault::MetadataFormat)?;
        // OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3: exactly, not merely equivalent.
        if metadata.issuer != *self.issuer {
            return Err(Fault::OtherIssuer);
        }
        let alias =
            metadata.mtls_endpoint_aliases.filter(|_| self.mutual).and_then(|aliases| aliases.introspection_endpoint);
        let text = alias.or(metadata.introspection_endpoint).ok_or(Fault::NoEndpoint)?;
        let url = named_url(&text, &self.metadata).ok_or(Fault::Endpoint)?;
        // Without a handshake there is no certificate to show.
        if self.mutual && url.scheme() != "https" { Err(Fault::Endpoint) } else { Ok(url) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(metadata: &serde_json::Value, mutual: bool) -> Result<String, String> {
        let Some(Endpoint::Discovered(discovery)) = Endpoint::new(None, &"https://idp.example/".into(), mutual) else {
            panic!("not discovered")
        };
        let url = discovery.endpoint(metadata.to_string().as_bytes());
        url.map(String::from).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_metadata_of_this_issuer_alone_names_the_endpoint() {
        let mut metadata = json!({"issuer": "https://idp.example/", "introspection_endpoint": "https://idp.example/introspect",
            "mtls_endpoint_aliases": {"introspection_endpoint": "https://mtls.idp.example/introspect"}});
        assert_eq!(found(&metadata, false).unwrap(), "https://idp.example/introspect");
        assert_eq!(found(&metadata, true).unwrap(), "https://mtls.idp.example/introspect");
        metadata.as_object_mut().unwrap().remove("mtls_endpoint_aliases");
        assert_eq!(found(&metadata, true).unwrap(), "https://idp.example/introspect");
        for (name, value) in [
            ("issuer", json!("https://idp.example")),
            ("introspection_endpoint", json!(null)),
            ("introspection_endpoint", json!("http://idp.example/introspect")),
            // A remote provider must not point the gateway at its own machine.
            ("introspection_endpoint", json!("http://127.0.0.1:9901/reload")),
            ("introspection_endpoint", json!(7)),
        ] {
            let mut metadata = metadata.clone();
            metadata.as_object_mut().unwrap().insert(name.to_owned(), value);
            assert!(found(&metadata, false).is_err(), "{metadata}");
        }
    }
}
