//! Accounts as they are kept. An account's row is found by its identifier, the `sub` of its tokens; a name or a mail address is a
//! row of its own that points there, so that one name is one account whoever registers at the same moment. The keys of all of
//! them name nobody.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name;
use crate::{
    authority::{Fault, random},
    clock::Now,
    store::{Batch, Store, StoreFault, Table, Versioned},
};

/// How many networks an account is known from.
const MOST_FAMILIAR: usize = 10;
/// How long a network stays known after a sign-in from it, in seconds: a month.
const FAMILIAR_SECS: u64 = 30 * 86_400;

/// An account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Its identifier: random, the `sub` of its tokens, and never another's.
    pub(crate) id: String,
    /// What its owner signs in with, as written.
    pub(crate) name: String,
    /// The mail address, once somebody showed that they read its mail.
    pub(crate) mail: Option<String>,
    /// The stored password: argon2id, or bcrypt until the first sign-in after an import.
    pub(crate) hash: String,
    /// When it was made, in seconds since the epoch.
    pub(crate) created_at: u64,
    /// When the password was chosen; 0: before it was imported.
    pub(crate) password_at: u64,
    /// Counts what ends every session: sessions of an earlier count are refused.
    pub(crate) epoch: u64,
    /// Networks that it was signed in from: others' guessing locks nobody out there.
    #[serde(default)]
    pub(crate) familiar: Vec<Familiar>,
    /// Until when no factor that its owner enrols deletes anything: after a recovery. Here and not with the factors, as there
    /// may never have been any.
    #[serde(default)]
    pub(crate) probation_until: u64,
}

/// A network that an account was signed in from, by a digest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Familiar {
    network: String,
    until: u64,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where a name leads.
#[derive(Serialize, Deserialize)]
struct Pointer {
    id: String,
}

impl Account {
    /// A new one.
    pub(crate) fn new(name: &str, mail: Option<&str>, hash: String, now: Now) -> Result<Self, Fault> {
        Ok(Self {
            id: random::id()?,
            name: name.to_owned(),
            mail: mail.map(str::to_owned),
            hash,
            created_at: now.unix_secs(),
            password_at: now.unix_secs(),
            epoch: 1,
            familiar: Vec::new(),
            probation_until: 0,
        })
    }

    /// The names that lead to it, as they are compared; one, where the name is the address.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            [Some(&self.name), self.mail.as_ref()].into_iter().flatten().map(|name| name::folded(name)).collect();
        names.dedup();
        names
    }

    /// What a password must not be made of.
    pub(crate) fn own_words(&self) -> Vec<&str> {
        [Some(self.name.as_str()), self.mail.as_deref()].into_iter().flatten().collect()
    }

    /// Whether it was signed in from this network not long ago.
    pub(crate) fn is_familiar(&self, network: &str, now: u64) -> bool {
        self.familiar.iter().any(|known| known.network == network && now < known.until)
    }

    /// Notes a network that it was signed in from. Whether that is worth a write.
    pub(crate) fn note_network(&mut self, network: &str, now: u64) -> bool {
        let until = now.saturating_add(FAMILIAR_SECS);
        // A day's precision spares a write for each sign-in.
        if self.familiar.iter().any(|known| known.network == network && known.until.saturating_add(86_400) > until) {
            return false;
        }
        self.familiar.retain(|known| known.network != network && now < known.until);
        if self.familiar.len() >= MOST_FAMILIAR {
            self.familiar.remove(0);
        }
        self.familiar.push(Familiar { network: network.to_owned(), until });
        true
    }
}

fn key(store: &Store, id: &str) -> String {
    format!("a:{}", store.index("account id", &[id.as_bytes()]))
}

fn name_key(store: &Store, folded: &str) -> String {
    format!("n:{}", store.index("account", &[folded.as_bytes()]))
}

/// An account by its identifier.
pub(crate) async fn by_id(store: &Store, id: &str, now: Now) -> Result<Option<Versioned<Account>>, StoreFault> {
    store.get(Table::Accounts, &key(store, id), now).await
}

/// An account by a name or an address. For one that leads nowhere as much is read.
pub(crate) async fn by_name(store: &Store, typed: &str, now: Now) -> Result<Option<Versioned<Account>>, StoreFault> {
    let folded = name::folded(typed);
    let pointer = store.get::<Pointer>(Table::Accounts, &name_key(store, &folded), now).await?;
    let (is_name, id) = pointer.map_or((false, folded), |pointer| (true, pointer.value.id));
    // An account's number, which its tokens tell, is no name of it: it would have a lock of its own.
    Ok(by_id(store, &id, now).await?.filter(|_| is_name))
}

/// Adds an account. The commit is refused as a conflict where one of its names is taken.
pub(crate) fn insert(store: &Store, batch: Batch, account: &Account) -> Batch {
    let batch = batch.insert(Table::Accounts, &key(store, &account.id), account, None);
    account.names().iter().fold(batch, |batch, name| {
        batch.insert(Table::Accounts, &name_key(store, name), &Pointer { id: account.id.clone() }, None)
    })
}

/// Takes an account away, with its names.
pub(crate) fn remove(store: &Store, batch: Batch, account: &Versioned<Account>) -> Batch {
    let batch = batch.delete(Table::Accounts, &account.key, account.version);
    let names = account.value.names();
    names.iter().fold(batch, |batch, name| batch.forget(Table::Accounts, &name_key(store, name)))
}

/// Puts an account in the place of what it was; its names may have changed.
pub(crate) fn update(store: &Store, batch: Batch, before: &Versioned<Account>, account: &Account) -> Batch {
    let (old, new) = (before.value.names(), account.names());
    let batch = batch.update(Table::Accounts, &before.key, before.version, account, None);
    let batch = old
        .iter()
        .filter(|name| !new.contains(name))
        .fold(batch, |batch, name| batch.forget(Table::Accounts, &name_key(store, name)));
    new.iter().filter(|name| !old.contains(name)).fold(batch, |batch, name| {
        batch.insert(Table::Accounts, &name_key(store, name), &Pointer { id: account.id.clone() }, None)
    })
}
