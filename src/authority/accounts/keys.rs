//! The keys that sign access tokens: a ring in one sealed row, so that nodes which share the store sign with the same; the public
//! halves are published to whoever verifies in this process, and as a JWK Set.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    authority::Fault,
    clock::Now,
    jose::{Algorithm, Entry, PublishedKeys, Ring, SigningKey, VerifyingKey},
    store::{Batch, Store, StoreFault, Table},
};

const ROW: &str = "accounts";
/// How often it is tried again where another node made a key at the same moment.
const TRIES: u32 = 5;

#[derive(Default, Serialize, Deserialize)]
struct Wire {
    keys: Vec<WireKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct WireKey {
    made: u64,
    algorithm: String,
    pkcs8: String,
}

/// The keys of accounts' access tokens.
#[derive(Debug)]
pub(super) struct Keys {
    store: Arc<Store>,
    ring: ArcSwap<Ring>,
    published: PublishedKeys,
}

impl Keys {
    pub(super) fn new(store: Arc<Store>, published: PublishedKeys) -> Self {
        Self { store, ring: ArcSwap::default(), published }
    }

    /// Reads the keys, makes another one if it is due, and publishes what verifiers are to know. A new key signs only once it
    /// is durable and was published for a while.
    pub(super) async fn renew(&self, algorithm: Algorithm, rotate: Duration, now: Now) -> Result<(), Fault> {
        for _ in 0..TRIES {
            let row = self.store.get::<Wire>(Table::SigningKeys, ROW, now).await?;
            let version = row.as_ref().map_or(0, |row| row.version);
            let ring = read(row.map(|row| row.value).unwrap_or_default())?;
            let secs = now.unix_secs();
            if !ring.is_due(algorithm, rotate, secs) {
                self.adopt(ring, secs);
                return Ok(());
            }
            let none = |_| Fault::Store(StoreFault::Unavailable("no key for access tokens can be made".to_owned()));
            let key = SigningKey::generate(algorithm).map_err(none)?;
            let kid = key.kid().to_owned();
            let ring = ring.with(Entry { made: secs, key }, secs);
            let batch = Batch::new().update(Table::SigningKeys, ROW, version, &write(&ring), None);
            match self.store.commit(batch, now).await {
                Ok(()) => {
                    tracing::info!(kid, "a new key for access tokens");
                    self.adopt(ring, secs);
                    return Ok(());
                }
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Store(StoreFault::Busy))
    }

    fn adopt(&self, ring: Ring, now: u64) {
        let public = |key: &SigningKey| {
            VerifyingKey::from_jwk(Value::Object(key.public_jwk().clone()).to_string().as_bytes()).ok()
        };
        let keys: Vec<VerifyingKey> = ring.published(now).filter_map(public).collect();
        self.ring.store(Arc::new(ring));
        self.published.publish(keys);
    }

    /// A token of this type; `None` before the keys were read.
    pub(super) fn sign(&self, typ: &str, claims: &impl Serialize, now: Now) -> Option<String> {
        self.ring.load().signing(now.unix_secs())?.sign(typ, claims)
    }

    /// The public keys, a JWK Set (RFC 7517 §5).
    pub(super) fn jwks(&self, now: Now) -> Value {
        let ring = self.ring.load();
        let keys: Vec<Value> =
            ring.published(now.unix_secs()).map(|key| Value::Object(key.public_jwk().clone())).collect();
        json!({ "keys": keys })
    }
}

fn read(wire: Wire) -> Result<Ring, Fault> {
    let bad =
        || Fault::Store(StoreFault::Unreadable("the keys of access tokens are not as they were written".to_owned()));
    let entries = wire.keys.iter().map(|key| {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == key.algorithm)?;
        let pair = SigningKey::from_pkcs8(algorithm, &STANDARD.decode(&key.pkcs8).ok()?).ok()?;
        Some(Entry { made: key.made, key: pair })
    });
    Ok(Ring::new(entries.collect::<Option<Vec<_>>>().ok_or_else(bad)?))
}

fn write(ring: &Ring) -> Wire {
    let keys = ring.entries().map(|entry| WireKey {
        made: entry.made,
        algorithm: entry.key.algorithm().name().to_owned(),
        pkcs8: STANDARD.encode(entry.key.pkcs8().expose()),
    });
    Wire { keys: keys.collect() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test]
    async fn a_restart_and_another_node_sign_with_the_same_key_and_a_rotation_is_published_before_it_signs() {
        let store = Arc::new(Store::for_tests());
        let (one, two) = (PublishedKeys::default(), PublishedKeys::default());
        let (first, second) = (Keys::new(store.clone(), one.clone()), Keys::new(store.clone(), two.clone()));
        let (now, day) = (SystemClock.now(), Duration::from_secs(86_400));
        assert!(first.sign("at+jwt", &json!({}), now).is_none() && one.keys().is_empty());
        let (made, read) =
            tokio::join!(first.renew(Algorithm::ES256, day, now), second.renew(Algorithm::ES256, day, now));
        made.unwrap();
        read.unwrap();
        assert_eq!(first.jwks(now), second.jwks(now), "one of them made it, both sign with it");
        assert_eq!((one.keys().len(), two.keys().len()), (1, 1));

        let later = now.after(day);
        second.renew(Algorithm::EdDSA, day, later).await.unwrap();
        assert_eq!(second.jwks(later)["keys"].as_array().unwrap().len(), 2);
        let kid = |keys: &Keys, now| {
            let token = keys.sign("at+jwt", &json!({}), now).unwrap();
            let header =
                base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
        };
        assert_eq!(kid(&second, later), first.jwks(now)["keys"][0]["kid"], "the new one is published first");
        assert_ne!(kid(&second, later.after(Duration::from_secs(700))), first.jwks(now)["keys"][0]["kid"]);
    }
}
