//! One source of users: its file, compiled, and what it knows of who tried what.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use serde_json::json;

use super::{
    flights::Flights,
    keyed::{Keyed, Proof},
    lockout::{Lockout, Rules, Who},
    presented::UserPass,
    users::{self, UserLine},
};
use crate::{
    clock::{Clock, Now},
    config::{Basic, Materials, Problem},
    identity::{IdentityObserver, PasswordOutcome, Presented, source_url},
    password::{Busy, Cost, HashQueue, StoredHash},
    policy::{Assurance, Credential, IssuerName, Kind, Marks, Principal, Reason},
};

/// When to try again where too many wait: a few hashes later.
const RETRY_AFTER_SECS: u32 = 2;

/// A user of the file.
#[derive(Debug)]
pub(super) struct User {
    hash: Arc<StoredHash>,
    /// What tells the stored password from any other.
    line: Box<[u8]>,
    principal: Arc<Principal>,
    /// The password that was right, and until when it is known. It falls with the line: another line is another user.
    proved: Mutex<Option<(Proof, Instant)>>,
}

impl User {
    fn new(source: &IssuerName, basic: &Basic, written: UserLine) -> Self {
        Self {
            line: written.hash.identity().into(),
            principal: Arc::new(principal(source, basic, &written)),
            hash: Arc::new(written.hash),
            proved: Mutex::default(),
        }
    }

    /// Whether this password was right not long ago.
    fn is_proved(&self, proof: &Proof, now: Instant) -> bool {
        let proved = *self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        proved.is_some_and(|(known, until)| now < until && verify_slices_are_equal(&known, proof).is_ok())
    }

    fn note_proved(&self, proof: Proof, until: Option<Instant>) {
        *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = until.map(|until| (proof, until));
    }
}

/// Who a user is. A password proves `pwd` and nothing more: it comes with every request of a script that stores it, so it
/// does not say that somebody was there just now, and there is no `auth_time`.
fn principal(source: &IssuerName, basic: &Basic, written: &UserLine) -> Principal {
    let mut scopes: Vec<Arc<str>> = basic.scopes.clone();
    for scope in &written.scopes {
        if !scopes.iter().any(|known| **known == **scope) {
            scopes.push(scope.as_str().into());
        }
    }
    Principal {
        issuer: Arc::clone(source),
        issuer_url: source_url(source),
        subject: written.name.as_str().into(),
        client: None,
        claims: json!({"sub": written.name, "scope": scopes.join(" "), "amr": ["pwd"]}),
        scopes: scopes.into(),
        assurance: Assurance { amr: Box::new(["pwd".into()]), ..Assurance::default() },
        expires_at: None,
        leeway_secs: 0.0,
        kind: Kind::Person,
        marks: Marks { fingerprint: Some(fingerprint(source, written)), ..Marks::default() },
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    }
}

/// What tells a user's password from any other that they had or will have. Not made of the password: what is stored of it, with
/// its salt, changes with it, and tells nobody what it is.
fn fingerprint(source: &IssuerName, written: &UserLine) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [source.as_bytes(), written.name.as_bytes(), &written.hash.identity()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

/// What becomes of a password that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
}

/// Why a password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unheard {
    Locked,
    Busy,
}

impl From<Busy> for Unheard {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// A source of users.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: IssuerName,
    pub(super) basic: Basic,
    users: HashMap<Arc<str>, Arc<User>>,
    /// What each user's hash costs: a name that no user has costs what one of them does.
    costs: Box<[Cost]>,
    rules: Arc<Rules>,
    lockout: Arc<Lockout>,
    queue: Arc<HashQueue>,
    flights: Flights<Verdict>,
}

/// What a source needs of the process.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) keyed: Arc<Keyed>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn IdentityObserver>,
    pub(super) handle: tokio::runtime::Handle,
}

/// Reads a source's file, or says all that is wrong with it.
pub(super) fn read(basic: &Basic, materials: &dyn Materials) -> Result<Vec<UserLine>, Vec<Problem>> {
    let (path, span) = (basic.file.path.display(), &basic.file.span);
    let bytes = materials
        .read_file(&basic.file.path)
        .map_err(|error| vec![Problem::error(span, format!("cannot read {path}: {error}"))])?;
    let problem = |fault: &users::LineFault| Problem::error(span, format!("{path}:{}: {}", fault.line, fault.fault));
    users::read(&bytes).map_err(|faults| faults.iter().map(problem).collect())
}

impl Source {
    /// Puts a source together. Users whose line is the same stay known, and so does all that happened.
    pub(super) fn new(
        name: &IssuerName,
        basic: &Basic,
        written: Vec<UserLine>,
        means: &Means,
        previous: Option<&Self>,
    ) -> Self {
        let costs = written.iter().map(|user| user.hash.cost()).collect();
        let users: HashMap<Arc<str>, Arc<User>> = written
            .into_iter()
            .map(|line| {
                let user = User::new(name, basic, line);
                let before = previous.and_then(|previous| previous.users.get(&user.principal.subject));
                let same = before.filter(|before| before.line == user.line && before.principal == user.principal);
                let user = same.map_or_else(|| Arc::new(user), Arc::clone);
                (Arc::clone(&user.principal.subject), user)
            })
            .collect();
        let lockout = previous.map_or_else(|| Arc::new(Lockout::new()), |previous| Arc::clone(&previous.lockout));
        let size = (basic.concurrent, basic.queue);
        let queue = previous
            .map(|previous| &previous.queue)
            .filter(|queue| queue.size == size)
            .map_or_else(|| Arc::new(HashQueue::new(basic.concurrent, basic.queue, means.handle.clone())), Arc::clone);
        Self {
            name: Arc::clone(name),
            basic: basic.clone(),
            users,
            costs,
            rules: Arc::new(Rules::new(&basic.lockout)),
            lockout,
            queue,
            flights: Flights::default(),
        }
    }

    /// Whether a user has this name.
    pub(super) fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Lets go of what says nothing any more.
    pub(super) fn sweep(&self, keyed: &Keyed, now: Now) {
        self.lockout.sweep(keyed, self.users.keys().map(|user| &**user), now.instant);
    }

    /// How many users are locked, each counted once for each address.
    pub(super) fn locked(&self, now: Now) -> usize {
        self.lockout.locked(now.instant)
    }

    /// Finds out whether a password is the user's. For a name that no user has the same is done, with a hash that costs as
    /// much, and counted the same.
    pub(super) async fn authenticate(
        &self,
        claimed: UserPass,
        presented: &Presented<'_>,
        means: &Means,
        now: Now,
    ) -> Credential {
        let user = self.users.get(claimed.user.as_str());
        let line: &[u8] = user.map_or(&[], |user| &user.line);
        let who = Who::new(&means.keyed, &claimed.user, line, presented.address);
        if self.lockout.is_locked(&who, now.instant) {
            return Credential::Invalid(Reason::LockedOut);
        }
        let proof = means.keyed.digest(&[b"password", claimed.password.expose()]);
        if let Some(user) = user.filter(|user| self.is_known(user, &who, &proof, now)) {
            return Credential::Valid(Arc::clone(&user.principal));
        }
        let flight = self.flights.join((*who.id(), proof));
        let look = || self.look_at(&claimed, user, who, proof, means, now);
        match (flight.outcome().get_or_try_init(look).await, user) {
            (Ok(Verdict::Right), Some(user)) => Credential::Valid(Arc::clone(&user.principal)),
            (Ok(Verdict::Right | Verdict::Wrong), None) => Credential::Invalid(Reason::UserUnknown),
            (Ok(Verdict::Wrong), Some(_)) => Credential::Invalid(Reason::PasswordWrong),
            (Err(Unheard::Locked), _) => Credential::Invalid(Reason::LockedOut),
            (Err(Unheard::Busy), _) => {
                means.observer.password(&self.name, PasswordOutcome::Busy);
                Credential::Unavailable { reason: Reason::PasswordsBusy, retry_after_secs: RETRY_AFTER_SECS }
            }
        }
    }

    /// Whether a password was right not long ago. After all that bounds guessing, and only where one more may be wrong: what
    /// is remembered must not be a way to guess without being counted.
    fn is_known(&self, user: &User, who: &Who, proof: &Proof, now: Now) -> bool {
        let is_known = self.lockout.would_take(who, &self.rules, now.instant) && user.is_proved(proof, now.instant);
        if is_known {
            self.lockout.shown_again(who, now.instant);
        }
        is_known
    }

    /// Hashes a password when it is its turn. It counts as wrong from when hashing begins, even if the client goes away.
    async fn look_at(
        &self,
        claimed: &UserPass,
        user: Option<&Arc<User>>,
        who: Who,
        proof: Proof,
        means: &Means,
        now: Now,
    ) -> Result<Verdict, Unheard> {
        // Somebody before may have gone away after it was found out.
        if user.is_some_and(|user| self.is_known(user, &who, &proof, now)) {
            return Ok(Verdict::Right);
        }
        let mut attempt = self.lockout.take(who, &self.rules, now.instant).ok_or(Unheard::Locked)?;
        let user = user.cloned();
        let stored = user.as_ref().map_or_else(|| self.decoy(&claimed.user, means), |user| Arc::clone(&user.hash));
        let password = claimed.password.clone();
        let (means, source, cache) = (means.clone(), Arc::clone(&self.name), self.basic.cache);
        let job = move || {
            attempt.look_at();
            let is_right = stored.verify(password.expose());
            let now = means.clock.now().instant;
            let Some(user) = user.filter(|_| is_right) else {
                means.observer.password(&source, PasswordOutcome::Wrong);
                if let Some(lock) = attempt.wrong(now) {
                    tell_locked(&source, lock);
                }
                return Verdict::Wrong;
            };
            attempt.right(now);
            user.note_proved(proof, (!cache.is_zero()).then(|| now.checked_add(cache)).flatten());
            means.observer.password(&source, PasswordOutcome::Right);
            Verdict::Right
        };
        Ok(self.queue.run(job).await?)
    }

    /// The hash that a name is judged by which no user has: always the same one for a name, and among all names as dear
    /// ones as often as among the users.
    fn decoy(&self, user: &str, means: &Means) -> Arc<StoredHash> {
        let digest = means.keyed.digest(&[b"decoy", user.as_bytes()]);
        let (pick, salt) = digest.split_at(16);
        let pick = pick.iter().fold(0_usize, |pick, byte| pick.wrapping_shl(8) | usize::from(*byte));
        let cost = pick.checked_rem(self.costs.len()).and_then(|pick| self.costs.get(pick)).copied();
        Arc::new(StoredHash::decoy(cost, &salt.try_into().unwrap_or_default()))
    }
}

/// The operator is told that there is guessing; whose name it was is not: it may be a password in the wrong field.
fn tell_locked(source: &str, lock: Duration) {
    tracing::info!(source, lock_secs = lock.as_secs(), "a user is locked at an address after wrong passwords");
}
