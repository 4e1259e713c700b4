//! One source of keys: its definition, the keys that it knows now, and what it makes of one.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use serde_json::{Map, Value};

use super::{
    format::{Form, form},
    last_use::{self, last_use_file},
    record::{LONGEST_KEY, digest},
    store::Store,
    table::{FileFault, Found, KeyTable},
};
use crate::{
    clock::Now,
    config::{ApiKeys, Config, CredentialSource, Limit, Problem},
    files::Look,
    identity::{SourceServices, source_url},
    policy::{Assurance, Credential, IssuerName, Kind, Marks, Principal, Reason},
};

/// A source of keys.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: IssuerName,
    pub(super) keys: ApiKeys,
    url: Arc<str>,
    limits: Arc<HashSet<Arc<str>>>,
    store: Store,
}

/// What a source makes of a key.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It cannot be one of its keys.
    Malformed,
    /// It is none of them.
    Unknown,
    /// It is one.
    Known(Credential),
}

/// Reads a source's file, or says everything that is wrong with it.
pub(super) fn check(
    source: &CredentialSource,
    keys: &ApiKeys,
    limits: &[Arc<Limit>],
) -> Result<KeyTable, Vec<Problem>> {
    let names = limits.iter().map(|limit| limit.name.clone()).collect();
    KeyTable::load(&keys.file.path, &names).map_err(|fault| problems(source, keys, fault))
}

fn problems(source: &CredentialSource, keys: &ApiKeys, fault: FileFault) -> Vec<Problem> {
    let (span, path) = (&keys.file.span, keys.file.path.display());
    match fault {
        FileFault::Unreadable(why) => {
            let help = format!("`stepgate keys add {}` makes it", source.name);
            let problem = Problem::error(span, format!("cannot read {path}: {why}"));
            vec![if keys.file.path.exists() { problem } else { problem.with_help(help) }]
        }
        FileFault::Lines { lines, more } => {
            let one = |line: u32, what: &str| Problem::error(span, format!("{path}:{line}: {what}"));
            let mut found: Vec<Problem> = lines.iter().map(|fault| one(fault.line, &fault.what)).collect();
            if more > 0 {
                found.push(Problem::error(span, format!("{path}: {more} more lines are not shown")));
            }
            found
        }
    }
}

impl Source {
    /// Reads a source's file and watches it, or keeps `before` if that is the same.
    pub(super) fn compile(
        source: &CredentialSource,
        keys: &ApiKeys,
        config: &Config,
        services: &SourceServices,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        let limits: HashSet<Arc<str>> = config.limits.iter().map(|limit| limit.name.clone()).collect();
        let last_uses = last_use_file(&config.server.state_dir, &source.name);
        if let Some(before) = before.filter(|before| before.is(keys, &limits) && before.store.last_uses() == last_uses)
        {
            before.store.look_again();
            return Ok(Arc::clone(before));
        }
        let seen = Look::at(&keys.file.path);
        let table = check(source, keys, &config.limits)?;
        match before {
            Some(before) => table.remember(&before.store.table()),
            None => match last_use::read(&last_uses) {
                Ok(last_uses) => table.recall(&last_uses),
                Err(error) => {
                    tracing::warn!(source = %source.name, %error, "when keys were last used cannot be read");
                }
            },
        }
        services.observer.api_keys(&source.name, Ok(table.len()));
        let limits = Arc::new(limits);
        Ok(Arc::new(Self {
            name: source.name.clone(),
            keys: keys.clone(),
            url: source_url(&source.name),
            store: Store::start(&source.name, &keys.file.path, (table, seen), last_uses, limits.clone(), services),
            limits,
        }))
    }

    fn is(&self, keys: &ApiKeys, limits: &HashSet<Arc<str>>) -> bool {
        // Where it stands in the configuration is nothing to the keys.
        let same_file = self.keys.file.path == keys.file.path;
        same_file && *self.limits == *limits && ApiKeys { file: keys.file.clone(), ..self.keys.clone() } == *keys
    }

    /// Writes down when keys were last used.
    pub(super) fn write_last_uses(&self) {
        self.store.write_last_uses();
    }

    /// Judges a key. `hash` is its hash, once that is known.
    pub(super) fn judge(&self, key: &[u8], hash: &mut Option<[u8; 32]>, address: IpAddr, now: Now) -> Verdict {
        let table = self.store.table();
        let possible = match form(&self.keys.prefix, key) {
            Form::Ours => true,
            Form::Broken => false,
            Form::Foreign => table.has_imported() && !key.is_empty() && key.len() <= LONGEST_KEY,
        };
        if !possible {
            return Verdict::Malformed;
        }
        let hash = hash.get_or_insert_with(|| digest(key));
        let Some(found) = table.find(hash) else { return Verdict::Unknown };
        if found.is_revoked() {
            return Verdict::Known(Credential::Invalid(Reason::ApiKeyRevoked));
        }
        if found.expires().is_some_and(|expires| u64::from(expires) <= now.unix_secs()) {
            return Verdict::Known(Credential::Invalid(Reason::ApiKeyExpired));
        }
        if !found.is_allowed_from(address) {
            return Verdict::Known(Credential::Invalid(Reason::ApiKeyNetwork));
        }
        if found.used(u32::try_from(now.unix_secs()).unwrap_or(0)) {
            self.store.note_use();
        }
        Verdict::Known(Credential::Valid(Arc::new(self.principal(&found, *hash))))
    }

    fn principal(&self, found: &Found<'_>, hash: [u8; 32]) -> Principal {
        let mut claims = Map::new();
        claims.insert("key_id".to_owned(), Value::from(found.id));
        claims.insert("owner".to_owned(), Value::from(found.owner));
        if !found.note.is_empty() {
            claims.insert("note".to_owned(), Value::from(found.note));
        }
        Principal {
            issuer: self.name.clone(),
            issuer_url: self.url.clone(),
            subject: found.owner.into(),
            client: None,
            scopes: found.grant.scopes.clone(),
            // A key says nothing of how, or when, anybody proved who they are: it satisfies no level.
            assurance: Assurance::default(),
            expires_at: found.expires().map(f64::from),
            leeway_secs: 0.0,
            claims: Value::Object(claims),
            kind: Kind::Machine,
            marks: Marks {
                id: Some(found.id.into()),
                issued_at: Some(f64::from(found.created())),
                // The same key in another source is another credential: its issuer stands beside this.
                fingerprint: Some(hash),
                ..Marks::default()
            },
            binding: None,
            limits: found.grant.limits.clone(),
            told: crate::policy::Told::default(),
        }
    }
}
