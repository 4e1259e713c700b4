//! Passwords: how one is stored (argon2id, bcrypt) and where it is hashed. Hashing takes tens of milliseconds and megabytes,
//! so it is what an attacker would use us for: it is bounded, and never done on a thread that serves requests.

mod queue;
mod stored;

pub use queue::{Busy, HashQueue};
pub use stored::{Cost, HashFault, StoredHash};

/// The longest password, in bytes: beyond any passphrase, and no burden to hash.
pub const PASSWORD_BYTES: usize = 1024;

/// Whether this may be a password: RFC 7617 §2 forbids control characters.
pub fn is_password(password: &str) -> bool {
    !password.is_empty() && password.len() <= PASSWORD_BYTES && !password.chars().any(char::is_control)
}
