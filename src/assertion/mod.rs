//! The token that an upstream gets: short-lived, signed by the gateway, for that upstream alone. An upstream that verifies it
//! is safe even from its own network, where anybody could send it identity headers.
//!
//! Its type is [`TYPE`], which no issuer's token has, and it is never accepted as a bearer token.

mod file;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    clock::{Clock, Now},
    config::{self, AssertionKey, Materials, Problem},
    jose::{Algorithm, Entry, Ring, SigningKey},
    policy::Principal,
};

/// The `typ` of these tokens (RFC 8725 §3.11).
pub const TYPE: &str = "stepgate-assertion+jwt";

/// How often it is looked whether another key is due.
const LOOK: Duration = Duration::from_secs(60);

/// The file of keys of our own making, in the state directory.
const FILE: &str = "assertion-keys.json";

/// Signs what upstreams are told of callers.
#[derive(Debug)]
pub struct Assertions {
    config: Arc<config::Assertions>,
    keys: Arc<Keys>,
}

/// Where the keys are from.
#[derive(Debug)]
enum Keys {
    /// The configuration.
    Given(Box<Given>),
    /// Our own making, and the task that lives as long as they are used.
    Own { own: Arc<Own>, rotation: Rotation },
}

#[derive(Debug)]
struct Given {
    key: SigningKey,
    /// Other public keys that are published: JWK objects.
    besides: Vec<Value>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    ring: ArcSwap<Ring>,
    /// Held while a key is made, so that two who find one due do not make two.
    making: Mutex<()>,
}

/// The task that makes another key in time; ends with it.
#[derive(Debug)]
struct Rotation(AbortHandle);

impl Drop for Rotation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an upstream is told (RFC 7519 §4, RFC 9068 §2.2, RFC 9493 §3.2.4, RFC 8417 §2.2 `txn`).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    txn: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    amr: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
}

impl Assertions {
    /// Finds what is wrong with the keys, without making any: for `check`.
    pub fn check(config: Option<&Arc<config::Assertions>>, materials: &dyn Materials) -> Vec<Problem> {
        config.and_then(|config| given(config, materials).err()).into_iter().collect()
    }

    /// Prepares the keys; those of our own making are made here if there are none, and others in time.
    pub fn compile(
        config: &Arc<config::Assertions>,
        materials: &dyn Materials,
        state_dir: &Path,
        (handle, clock): (&Handle, &Arc<dyn Clock>),
        previous: Option<&Self>,
    ) -> Result<Self, Problem> {
        if let Some(previous) = previous.filter(|previous| *previous.config == **config) {
            // The files may have changed all the same, if they are the user's.
            if matches!(*previous.keys, Keys::Own { .. }) {
                return Ok(Self { config: config.clone(), keys: previous.keys.clone() });
            }
        }
        let before = previous.and_then(|previous| match &*previous.keys {
            Keys::Own { own, .. } => Some(own.clone()),
            Keys::Given(_) => None,
        });
        let keys = match given(config, materials)? {
            Some(given) => Keys::Given(Box::new(given)),
            None => {
                let problem = |error: io::Error| {
                    let path = state_dir.join(FILE);
                    Problem::error(&config.span, format!("the keys of assertions in {}: {error}", path.display()))
                };
                own(config, state_dir, before, handle, clock).map_err(problem)?
            }
        };
        Ok(Self { config: config.clone(), keys: Arc::new(keys) })
    }

    /// A token about a caller for one upstream. `None` where it could not be signed.
    pub fn sign(
        &self,
        principal: &Principal,
        (audience, ttl): (&str, Duration),
        (id, request_id): (&str, &str),
        now: Now,
    ) -> Option<String> {
        let iat = now.unix_secs();
        let subject = (!principal.subject.is_empty()).then_some(&*principal.subject);
        let assurance = &principal.assurance;
        let claims = Claims {
            iss: &self.config.issuer,
            aud: audience,
            iat,
            exp: iat.saturating_add(ttl.as_secs().max(1)),
            jti: id,
            txn: request_id,
            sub: subject,
            sub_id: subject.map(|sub| json!({"format": "iss_sub", "iss": &*principal.issuer_url, "sub": sub})),
            client_id: principal.client.as_deref(),
            scope: scope(&principal.scopes),
            acr: assurance.acr.as_deref(),
            amr: assurance.amr.iter().map(|method| &**method).collect(),
            auth_time: assurance.auth_time.filter(|time| time.is_finite() && *time >= 0.0).map(|time| time as u64),
        };
        match &*self.keys {
            Keys::Given(given) => given.key.sign(TYPE, &claims),
            Keys::Own { own, .. } => own.ring.load().signing(iat)?.sign(TYPE, &claims),
        }
    }

    /// The public keys, a JWK Set (RFC 7517 §5).
    pub fn jwks(&self, now: Now) -> String {
        let keys: Vec<Value> = match &*self.keys {
            Keys::Given(given) => [public(&given.key)].into_iter().chain(given.besides.iter().cloned()).collect(),
            Keys::Own { own, .. } => own.ring.load().published(now.unix_secs()).map(public).collect(),
        };
        format!("{}\n", json!({ "keys": keys }))
    }

    /// Makes no further keys: another process goes on.
    pub fn let_go(&self) {
        match &*self.keys {
            Keys::Given(_) => {}
            Keys::Own { rotation, .. } => rotation.0.abort(),
        }
    }

    /// The path at which the public listeners serve them.
    pub fn jwks_path(&self) -> &str {
        &self.config.jwks_path
    }
}

fn public(key: &SigningKey) -> Value {
    Value::Object(key.public_jwk().clone())
}

fn algorithm(config: &config::Assertions) -> Algorithm {
    match config.algorithm {
        config::AssertionAlgorithm::ES256 => Algorithm::ES256,
        config::AssertionAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// The user's key, if there is one.
fn given(config: &config::Assertions, materials: &dyn Materials) -> Result<Option<Given>, Problem> {
    let AssertionKey::Given { source, besides } = &config.key else { return Ok(None) };
    let pem = materials.secret(source)?;
    let key = SigningKey::from_pem(algorithm(config), pem.expose())
        .map_err(|fault| Problem::error(source.span(), format!("the key {fault}")))?;
    let besides = besides.iter().map(|file| {
        let problem = |why: String| Problem::error(&file.span, why);
        let text = materials
            .read_file(&file.path)
            .map_err(|error| problem(format!("cannot read {}: {error}", file.path.display())))?;
        let set = crate::jose::JwkSet::parse(&text).map_err(|fault| problem(fault.to_string()))?;
        if !set.left_aside.is_empty() {
            return Err(problem("a key of this set is not a public key for verifying signatures".to_owned()));
        }
        let value: Value = serde_json::from_slice(&text).map_err(|error| problem(error.to_string()))?;
        Ok(value.get("keys").and_then(Value::as_array).cloned().unwrap_or_default())
    });
    let besides = besides.collect::<Result<Vec<_>, Problem>>()?.concat();
    Ok(Some(Given { key, besides }))
}

fn own(
    config: &config::Assertions,
    state_dir: &Path,
    before: Option<Arc<Own>>,
    handle: &Handle,
    clock: &Arc<dyn Clock>,
) -> io::Result<Keys> {
    let AssertionKey::Own { rotate } = config.key else { return Err(io::ErrorKind::InvalidInput.into()) };
    let own = match before {
        Some(own) => own,
        None => {
            let path = state_dir.join(FILE);
            let ring = ArcSwap::from_pointee(file::load(&path)?);
            Arc::new(Own { path, ring, making: Mutex::new(()) })
        }
    };
    let algorithm = algorithm(config);
    own.renew(algorithm, rotate, clock.now().unix_secs())?;
    let (task_own, clock) = (own.clone(), clock.clone());
    let task = handle.spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let (own, now) = (task_own.clone(), clock.now().unix_secs());
            let renewed = tokio::task::spawn_blocking(move || own.renew(algorithm, rotate, now)).await;
            if let Ok(Err(error)) = renewed {
                tracing::error!(%error, "no new key for assertions could be made: the old one signs on");
            }
        }
    });
    Ok(Keys::Own { own, rotation: Rotation(task.abort_handle()) })
}

impl Own {
    /// Makes another key if one is due. It signs only once it is durable.
    fn renew(&self, algorithm: Algorithm, rotate: Duration, now: u64) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        if !ring.is_due(algorithm, rotate, now) {
            return Ok(());
        }
        let key = SigningKey::generate(algorithm).map_err(io::Error::other)?;
        tracing::info!(kid = key.kid(), "a new key for assertions");
        let ring = ring.with(Entry { made: now, key }, now);
        file::save(&self.path, &ring)?;
        self.ring.store(Arc::new(ring));
        Ok(())
    }
}

/// RFC 9068 §2.2.3: the scopes, parted by spaces; one that holds a space itself would be read as two others, and is not told.
fn scope(scopes: &[Arc<str>]) -> Option<String> {
    let told: Vec<&str> = scopes.iter().map(|scope| &**scope).filter(|scope| !scope.contains(' ')).collect();
    (!told.is_empty()).then(|| told.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scope_is_told_as_two() {
        let told = |scopes: &[&str]| scope(&scopes.iter().map(|scope| Arc::from(*scope)).collect::<Vec<_>>());
        assert_eq!(told(&["read", "not admin", "write"]).as_deref(), Some("read write"));
        assert_eq!((told(&["not admin"]), told(&[])), (None, None));
    }
}
