//! The keys that sign grants and access tokens: in the store, sealed like everything there. A key signs only once it is
//! durable, so that no token is out whose key a crash has lost.

use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::records::Bytes;
use crate::{
    clock::Now,
    jose::{Algorithm, Entry, Ring, SigningKey, VerifyingKey},
    secret::Secret,
    store::{Batch, Store, StoreFault, Table},
};

/// The row that has them all.
const ROW: &str = "ring";

/// The keys.
#[derive(Debug, Default)]
pub struct Keys {
    held: ArcSwap<Held>,
}

#[derive(Debug, Default)]
struct Held {
    ring: Ring,
    /// Of each key its public half, to verify by.
    verifying: Vec<VerifyingKey>,
    /// The row's version; 0: there is none.
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    keys: Vec<WireKey>,
}

#[derive(Serialize, Deserialize)]
struct WireKey {
    made: u64,
    algorithm: String,
    pkcs8: Bytes,
}

impl Held {
    fn of(ring: Ring, version: u64) -> Result<Self, StoreFault> {
        let public = |entry: &Entry| {
            let jwk = Value::Object(entry.key.public_jwk().clone()).to_string();
            VerifyingKey::from_jwk(jwk.as_bytes()).map_err(|_| unreadable())
        };
        let verifying = ring.entries().map(public).collect::<Result<_, _>>()?;
        Ok(Self { ring, verifying, version })
    }

    async fn read(store: &Store, now: Now) -> Result<Self, StoreFault> {
        let Some(row) = store.get::<Wire>(Table::SigningKeys, ROW, now).await? else { return Ok(Self::default()) };
        let entry = |key: WireKey| {
            let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == key.algorithm)?;
            Some(Entry { made: key.made, key: SigningKey::from_pkcs8(algorithm, key.pkcs8.0.expose()).ok()? })
        };
        let entries = row.value.keys.into_iter().map(entry).collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
        Self::of(Ring::new(entries), row.version)
    }
}

fn unreadable() -> StoreFault {
    StoreFault::Unreadable("in signing_keys: it does not hold the keys that were written".to_owned())
}

impl Keys {
    /// Reads the keys; where there is none that fits, one is made.
    pub(super) async fn open(
        store: &Store,
        algorithm: Algorithm,
        rotate: Duration,
        now: Now,
    ) -> Result<Self, StoreFault> {
        let keys = Self { held: ArcSwap::from_pointee(Held::read(store, now).await?) };
        keys.renew(store, algorithm, rotate, now).await?;
        Ok(keys)
    }

    /// Makes another key if one is due. Of two who do so at once, one's key counts for both.
    pub(super) async fn renew(
        &self,
        store: &Store,
        algorithm: Algorithm,
        rotate: Duration,
        now: Now,
    ) -> Result<(), StoreFault> {
        for _ in 0..3 {
            let held = self.held.load_full();
            if !held.ring.is_due(algorithm, rotate, now.unix_secs()) {
                return Ok(());
            }
            let made = SigningKey::generate(algorithm).map_err(|fault| StoreFault::Unavailable(fault.to_string()))?;
            tracing::info!(kid = made.kid(), "a new key of the authority's");
            let ring = held.ring.with(Entry { made: now.unix_secs(), key: made }, now.unix_secs());
            let keys = ring.entries().map(|entry| WireKey {
                made: entry.made,
                algorithm: entry.key.algorithm().name().to_owned(),
                pkcs8: Bytes(Secret::new(entry.key.pkcs8().expose())),
            });
            let wire = Wire { keys: keys.collect() };
            let batch = Batch::new().update(Table::SigningKeys, ROW, held.version, &wire, None);
            match store.commit(batch, now).await {
                Ok(()) | Err(StoreFault::Conflict) => {
                    self.held.store(std::sync::Arc::new(Held::read(store, now).await?))
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// A token of this type over these claims. `None` where it could not be signed.
    pub fn sign(&self, typ: &str, claims: &impl Serialize, now: Now) -> Option<String> {
        self.held.load().ring.signing(now.unix_secs())?.sign(typ, claims)
    }

    /// What verifies: every key that is still published.
    pub fn verifying(&self) -> Vec<VerifyingKey> {
        self.held.load().verifying.clone()
    }

    /// The public keys, a JWK Set (RFC 7517 §5).
    pub fn jwks(&self, now: Now) -> Value {
        let held = self.held.load();
        let keys: Vec<Value> =
            held.ring.published(now.unix_secs()).map(|key| Value::Object(key.public_jwk().clone())).collect();
        json!({ "keys": keys })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        jose,
        store::testing::{at, wait},
    };

    const DAY: u64 = 86_400;
    const START: u64 = 1_800_000_000;
    /// How long a key is published before it signs, and after that another one is.
    const LEAD: u64 = 600;
    const RETIRED: u64 = 3600;

    fn kids(keys: &Keys, secs: u64) -> Vec<String> {
        let set = keys.jwks(at(secs));
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether a token is one of ours, for the gateway itself and for whoever fetches the published keys; and by which it is.
    fn verified(keys: &Keys, token: &str, secs: u64) -> (bool, bool) {
        let algorithms = [Algorithm::EdDSA].into_iter().collect();
        let is_by =
            |set: &[VerifyingKey]| jose::verify_any(jose::inspect(token, 8192).unwrap(), set, algorithms).is_ok();
        let published = jose::JwkSet::parse(keys.jwks(at(secs)).to_string().as_bytes()).unwrap().keys;
        (is_by(&keys.verifying()), is_by(&published))
    }

    #[test]
    fn another_key_is_published_before_it_signs_and_the_old_ones_tokens_verify_until_they_end() {
        let store = Store::for_tests();
        let rotate = Duration::from_secs(DAY);
        let renew = |keys: &Keys, secs: u64| wait(keys.renew(&store, Algorithm::EdDSA, rotate, at(secs))).unwrap();
        let sign = |keys: &Keys, secs: u64| keys.sign("at+jwt", &json!({"sub": "alice"}), at(secs)).unwrap();
        let keys = wait(Keys::open(&store, Algorithm::EdDSA, rotate, at(START))).unwrap();
        renew(&keys, START + DAY - 1);
        let [first] = kids(&keys, START + DAY - 1).try_into().unwrap();
        let due = START + DAY;
        renew(&keys, due);
        let [old, second] = kids(&keys, due).try_into().unwrap();
        assert_eq!(old, first);
        let by = |secs: u64| keys.held.load().ring.signing(secs).unwrap().kid().to_owned();
        assert_eq!((by(due), by(due + LEAD - 1), by(due + LEAD)), (first.clone(), first.clone(), second.clone()));
        let (last, next) = (sign(&keys, due + LEAD - 1), sign(&keys, due + LEAD));
        let end = due + LEAD - 1 + RETIRED;
        renew(&keys, end);
        assert_eq!((verified(&keys, &last, end), verified(&keys, &next, end)), ((true, true), (true, true)));
        assert_eq!(kids(&keys, end + 1), std::slice::from_ref(&second), "no token of the old one lives");
        // A start after that finds the same keys, and another process's do for this one.
        let again = wait(Keys::open(&store, Algorithm::EdDSA, rotate, at(end))).unwrap();
        assert_eq!(kids(&again, end), kids(&keys, end));
        renew(&again, due + DAY);
        renew(&keys, due + DAY);
        assert_eq!(kids(&again, due + DAY), kids(&keys, due + DAY), "of two who make one at once one counts");
        assert_eq!(kids(&keys, due + DAY).len(), 2, "the first is forgotten");
        assert_eq!(verified(&keys, &last, due + DAY), (false, false));
    }
}
