//! The file of users: `name:hash` or `name:hash:scope scope` a line, as `htpasswd` writes it but for the scopes. Blank
//! lines and lines that begin with `#` are left alone.

use std::fmt;

use thiserror::Error;

use super::presented::is_user_name;
use crate::password::{HashFault, StoredHash};

/// After so many faults one more helps nobody.
const MAX_FAULTS: usize = 20;

/// A user as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLine {
    /// The name.
    pub name: String,
    /// The password.
    pub hash: StoredHash,
    /// The scopes.
    pub scopes: Vec<String>,
}

/// What is wrong with a line. None quotes it: it may hold a password in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// Counted from 1.
    pub line: usize,
    /// What.
    pub fault: UserFault,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

/// What is wrong with a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UserFault {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Encoding,
    /// No colon.
    #[error("it is not `name:hash` or `name:hash:scope scope`")]
    Form,
    /// The name.
    #[error("the name is empty, longer than 255 bytes, begins or ends with a blank, or has a control character")]
    Name,
    /// A name twice.
    #[error("the user stands on line {0} already")]
    Twice(usize),
    /// The hash.
    #[error(transparent)]
    Hash(#[from] HashFault),
    /// A scope.
    #[error("a scope has a character that it cannot hold (RFC 6749 §3.3)")]
    Scope,
}

/// Reads a file of users, or says all that is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Vec<UserLine>, Vec<LineFault>> {
    let mut users: Vec<(usize, UserLine)> = Vec::new();
    let mut known = std::collections::HashMap::new();
    let mut faults = Vec::new();
    for (line, text) in bytes.split(|byte| *byte == b'\n').enumerate().map(|(at, text)| (at + 1, text)) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let user = match std::str::from_utf8(text) {
            Ok(text) if is_user(text) => user(text),
            Ok(_) => continue,
            Err(_) => Err(UserFault::Encoding),
        };
        let user = user.and_then(|user| match known.insert(user.name.clone(), line) {
            Some(before) => Err(UserFault::Twice(before)),
            None => Ok(user),
        });
        match user {
            Ok(user) => users.push((line, user)),
            Err(fault) => faults.push(LineFault { line, fault }),
        }
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    if faults.is_empty() { Ok(users.into_iter().map(|(_, user)| user).collect()) } else { Err(faults) }
}

/// Whether a line is a user's: not blank, and no remark.
fn is_user(text: &str) -> bool {
    !text.trim().is_empty() && !text.starts_with('#')
}

fn user(text: &str) -> Result<UserLine, UserFault> {
    // Scopes have colons of their own.
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(hash), scopes) = (parts.next(), parts.next(), parts.next()) else {
        return Err(UserFault::Form);
    };
    if !is_name(name) {
        return Err(UserFault::Name);
    }
    let hash = StoredHash::parse(hash)?;
    let scopes = scopes.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty());
    let scopes: Vec<String> = scopes.map(str::to_owned).collect();
    if scopes.iter().all(|scope| is_scope(scope)) {
        Ok(UserLine { name: name.to_owned(), hash, scopes })
    } else {
        Err(UserFault::Scope)
    }
}

/// Whether a user of a file may have this name: what a client can send, less what would be a remark or a slip.
pub fn is_name(name: &str) -> bool {
    is_user_name(name) && name.trim() == name && !name.starts_with('#')
}

/// RFC 6749 §3.3.
pub fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|b| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b))
}

/// A file with a user's line put in the place of an older one, or at its end; everything else stays as it is.
pub fn with_line(text: &str, name: &str, line: &str) -> String {
    let mut out = String::with_capacity(text.len() + line.len() + 1);
    let mut put = false;
    for old in text.lines() {
        let is_theirs = name_of(old) == Some(name);
        out.push_str(if is_theirs { line } else { old });
        out.push('\n');
        put |= is_theirs;
    }
    if !put {
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A file without a user's line; `None`: there is none.
pub fn without_line(text: &str, name: &str) -> Option<String> {
    let is_theirs = |line: &&str| name_of(line) == Some(name);
    text.lines().any(|line| is_theirs(&line)).then(|| {
        let kept = text.lines().filter(|line| !is_theirs(line));
        kept.fold(String::with_capacity(text.len()), |out, line| out + line + "\n")
    })
}

fn name_of(line: &str) -> Option<&str> {
    line.split_once(':').map(|(name, _)| name).filter(|_| is_user(line))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const HASH: &str = "$2b$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW";

    #[test]
    fn a_file_of_htpasswd_is_read_and_one_with_scopes() {
        let text = format!("# partners\n\nalice:{HASH}\r\nbob smith:{HASH}:orders:read  write\nzoë:{HASH}:");
        let users = read(text.as_bytes()).unwrap();
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["alice", "bob smith", "zoë"]);
        assert_eq!(users[1].scopes, ["orders:read", "write"]);
        assert!(users[0].scopes.is_empty() && users[2].scopes.is_empty());
        assert_eq!(read(b""), Ok(Vec::new()));
    }

    #[test]
    fn every_fault_has_its_line_and_shows_nothing() {
        let text = format!(
            "alice:{HASH}\nalice:{HASH}\nsecret-without-colon\n:{HASH}\n bob:{HASH}\neve:hunter2\nmal:{HASH}:a\"b\nx:$2b$04${}\n",
            &HASH[7..]
        );
        let mut bytes = text.into_bytes();
        bytes.extend(b"\xff:x\n");
        let faults = read(&bytes).unwrap_err();
        let said: Vec<(usize, UserFault)> = faults.iter().map(|fault| (fault.line, fault.fault)).collect();
        assert_eq!(
            said,
            [
                (2, UserFault::Twice(1)),
                (3, UserFault::Form),
                (4, UserFault::Name),
                (5, UserFault::Name),
                (6, UserFault::Hash(HashFault::Unknown)),
                (7, UserFault::Scope),
                (8, UserFault::Hash(HashFault::TooCheap)),
                (9, UserFault::Encoding),
            ]
        );
        let shown = faults.iter().map(ToString::to_string).collect::<String>();
        assert!(!shown.contains("hunter2") && !shown.contains("secret-without") && !shown.contains("k1wb"), "{shown}");
    }

    #[test]
    fn editing_touches_one_line() {
        let text = "# a remark\nalice:old\n\nbob:x:read\n";
        assert_eq!(with_line(text, "alice", "alice:new"), "# a remark\nalice:new\n\nbob:x:read\n");
        assert_eq!(with_line(text, "eve", "eve:new"), format!("{text}eve:new\n"));
        assert_eq!(with_line("bob:x", "eve", "eve:new"), "bob:x\neve:new\n");
        assert_eq!(without_line(text, "bob").unwrap(), "# a remark\nalice:old\n\n");
        assert_eq!(without_line(text, "eve"), None);
        assert_eq!(without_line(text, "# a remark"), None);
    }
}
