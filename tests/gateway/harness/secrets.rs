//! What must never be seen in a log: every token and password that a test mints is remembered here, and each gateway's
//! output is searched for all of them when it ends.

use std::sync::Mutex;

static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers a value that no log may hold.
pub fn remember(secret: &str) {
    assert!(secret.len() >= 8, "too short to be searched for: {secret}");
    SECRETS.lock().unwrap().push(secret.to_owned());
}

/// Remembers a compact JWS: as a whole, and its claims and signature by themselves.
pub fn remember_token(token: &str) {
    remember(token);
    for part in token.split('.').skip(1).filter(|part| part.len() >= 24) {
        remember(part);
    }
}

/// Says whether `text` is free of every secret.
pub fn leaked(text: &str) -> Option<String> {
    SECRETS.lock().unwrap().iter().find(|secret| text.contains(secret.as_str())).cloned()
}
