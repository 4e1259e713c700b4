//! Importing accounts: name, mail address, stored password, from CSV or lines of JSON. All problems are told, each with its line;
//! nothing is imported unless all is right, or the caller says that bad lines are to be left out. Importing the same file again
//! changes nothing: an account that is there stays as its owner has made it since.

use serde::Deserialize;
use thiserror::Error;

use super::{
    Accounts, name,
    rows::{self, Account},
};
use crate::{
    authority::Fault,
    clock::Now,
    password::{HashFault, StoredHash},
    store::{Batch, StoreFault},
};

/// The longest file, in bytes: some hundred thousand accounts.
pub const MOST_BYTES: usize = 64 << 20;

/// How many accounts are made in one commit: three writes each, of the 256 that one may have.
const AT_ONCE: usize = 80;

/// A line that can be imported.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The name.
    pub name: String,
    /// The mail address.
    pub mail: Option<String>,
    /// The stored password.
    pub hash: String,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What is wrong with a line. None quotes it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct LineFault {
    /// Counted from 1.
    pub line: usize,
    /// What.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum What {
    /// It is neither three fields nor a JSON object.
    #[error("it is not `name,email,hash`, nor a JSON object with `name`, `email` and `hash`")]
    Form,
    /// The name cannot be one.
    #[error("the name is neither plain nor the line's own mail address")]
    Name,
    /// The address cannot be one.
    #[error("this is no mail address")]
    Mail,
    /// The hash is not taken.
    #[error(transparent)]
    Hash(#[from] HashFault),
    /// A line before has the same name or address.
    #[error("line {0} has this name or address, too")]
    Twice(usize),
    /// Another account has the name or the address.
    #[error("another account has this name or address")]
    Taken,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many accounts were made.
    pub made: usize,
    /// How many were there already.
    pub there: usize,
    /// Lines that were left out.
    pub faults: Vec<LineFault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    name: Option<String>,
    email: Option<String>,
    hash: String,
}

/// Reads a file: CSV, with `name,email,hash` as its first line or not, or one JSON object a line. Blank lines count for nothing.
pub fn read(text: &str) -> (Vec<Line>, Vec<LineFault>) {
    let (mut lines, mut faults) = (Vec::<Line>::new(), Vec::new());
    let mut seen = std::collections::HashMap::<String, usize>::new();
    for (index, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        if text.trim().is_empty() || (number == 1 && text.trim() == "name,email,hash") {
            continue;
        }
        match line(number, text.trim()) {
            Ok(line) => {
                let mut names: Vec<String> = [Some(&line.name), line.mail.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|name| name::folded(name))
                    .collect();
                names.dedup();
                if let Some(before) = names.iter().find_map(|name| seen.get(name)) {
                    faults.push(LineFault { line: number, what: What::Twice(*before) });
                    continue;
                }
                seen.extend(names.into_iter().map(|name| (name, number)));
                lines.push(line);
            }
            Err(what) => faults.push(LineFault { line: number, what }),
        }
    }
    (lines, faults)
}

fn line(number: usize, text: &str) -> Result<Line, What> {
    let Object { name, email, hash } = if text.starts_with('{') {
        serde_json::from_str(text).map_err(|_| What::Form)?
    } else {
        csv(text).ok_or(What::Form)?
    };
    let mail = email.filter(|mail| !mail.is_empty());
    let name = name.filter(|name| !name.is_empty()).or_else(|| mail.clone()).ok_or(What::Name)?;
    if mail.as_deref().is_some_and(|mail| !name::is_mail(mail)) {
        return Err(What::Mail);
    }
    if !name::is_name(&name) && mail.as_deref() != Some(name.as_str()) {
        return Err(What::Name);
    }
    StoredHash::parse(&hash)?;
    Ok(Line { number, name, mail, hash })
}

/// Three fields (RFC 4180). The commas of argon2id's costs need quotes there; as no name and no address holds a comma, what is
/// behind the second one is the hash without them, too.
fn csv(text: &str) -> Option<Object> {
    let mut fields = text.splitn(3, ',').map(unquoted);
    let (name, email, hash) = (fields.next()??, fields.next()??, fields.next()??);
    Some(Object { name: Some(name), email: Some(email), hash })
}

fn unquoted(field: &str) -> Option<String> {
    let Some(rest) = field.strip_prefix('"') else { return (!field.contains('"')).then(|| field.to_owned()) };
    let inner = rest.strip_suffix('"')?;
    // Neither a name nor an address nor a hash holds a quotation mark.
    (!inner.contains('"')).then(|| inner.to_owned())
}

impl Accounts {
    /// Imports what was read. With `skip_bad`, lines that cannot be are left out; otherwise one of them leaves out all.
    pub async fn import(
        &self,
        lines: &[Line],
        faults: Vec<LineFault>,
        skip_bad: bool,
        now: Now,
    ) -> Result<Imported, Fault> {
        let mut imported = Imported { faults, ..Imported::default() };
        let mut wanted = Vec::new();
        for line in lines {
            let by_name = rows::by_name(self.store(), &line.name, now).await?;
            let by_mail = match &line.mail {
                Some(mail) => rows::by_name(self.store(), mail, now).await?,
                None => None,
            };
            match (by_name, by_mail) {
                (None, None) => wanted.push(line),
                // The same account by both: it was imported before.
                (Some(one), Some(other)) if one.value.id == other.value.id => imported.there += 1,
                (Some(_), None) if line.mail.is_none() => imported.there += 1,
                (Some(_) | None, _) => imported.faults.push(LineFault { line: line.number, what: What::Taken }),
            }
        }
        imported.faults.sort_by_key(|fault| fault.line);
        if !imported.faults.is_empty() && !skip_bad {
            return Ok(imported);
        }
        for some in wanted.chunks(AT_ONCE) {
            match self.insert_all(some, now).await {
                Ok(()) => imported.made += some.len(),
                // Somebody registered one of these names meanwhile: which one, shows one by one.
                Err(Fault::Store(StoreFault::Conflict)) => {
                    for line in some {
                        match self.insert_all(&[line], now).await {
                            Ok(()) => imported.made += 1,
                            Err(Fault::Store(StoreFault::Conflict)) => {
                                imported.faults.push(LineFault { line: line.number, what: What::Taken });
                            }
                            Err(fault) => return Err(fault),
                        }
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(imported)
    }

    async fn insert_all(&self, lines: &[&Line], now: Now) -> Result<(), Fault> {
        let mut batch = Batch::new();
        for line in lines {
            let account = Account::new(&line.name, line.mail.as_deref(), line.hash.clone(), now)?;
            batch = rows::insert(self.store(), batch, &Account { password_at: 0, ..account });
        }
        Ok(self.store().commit(batch, now).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGON2: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    const BCRYPT: &str = "$2b$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW";

    #[test]
    fn csv_and_json_are_read_and_every_fault_has_its_line() {
        let text = format!(
            "name,email,hash\nalice,alice@example.org,\"{ARGON2}\"\n\nbob,,{ARGON2}\n{{\"email\":\"c@example.org\",\"hash\":\"{BCRYPT}\"}}\n\
             a b,,{BCRYPT}\nx@y.z,,{BCRYPT}\ndora,nowhere,{BCRYPT}\nemil,,md5\nALICE,,{BCRYPT}\nfritz,Alice@Example.org,{BCRYPT}\njust one\n"
        );
        let (lines, faults) = read(&text);
        let names: Vec<_> = lines.iter().map(|line| (line.number, line.name.as_str(), line.mail.as_deref())).collect();
        assert_eq!(
            names,
            [(2, "alice", Some("alice@example.org")), (4, "bob", None), (5, "c@example.org", Some("c@example.org"))]
        );
        assert_eq!(lines.first().map(|line| line.hash.as_str()), Some(ARGON2));
        let faults: Vec<_> = faults.into_iter().map(|fault| (fault.line, fault.what)).collect();
        assert_eq!(
            faults,
            [
                (6, What::Name),
                (7, What::Name),
                (8, What::Mail),
                (9, What::Hash(HashFault::Unknown)),
                (10, What::Twice(2)),
                (11, What::Twice(2)),
                (12, What::Form),
            ]
        );
    }
}
