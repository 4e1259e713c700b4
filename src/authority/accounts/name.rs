//! Names that people sign in with: a name of their own, or their mail address. Two that look the same are the same.

use crate::notify;

/// The longest name, in bytes; a mail address has 254 (RFC 5321 §4.5.3.1.3, less the brackets).
const NAME_BYTES: usize = 64;

/// What somebody may be called: letters, digits and `. _ -`, beginning with a letter or digit. ASCII alone, as letters of other
/// scripts that look the same would make two names of one. It holds no `@`, so that it is nobody's mail address.
pub(super) fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= NAME_BYTES && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_part)
}

/// Whether mail can be sent there: ASCII, one line, one address.
pub(super) fn is_mail(address: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '\\');
    address.len() <= 254
        && address.chars().all(plain)
        && address.matches('@').count() == 1
        && notify::is_address(address)
}

/// The form in which names are compared. No provider of mail tells two mailboxes apart by case.
pub(super) fn folded(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_no_address() {
        for good in ["alice", "a", "Alice.B-2_x", "0x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".alice", "al ice", "alice@example.org", "аlice", "a\n", &"a".repeat(65), "a:b", "a/b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_one_line_and_one_mailbox() {
        for good in ["alice@example.org", "a.b+tag@mail.example"] {
            assert!(is_mail(good), "{good}");
        }
        for bad in [
            "",
            "alice",
            "a@b@c",
            "a@b\r\nBcc: x@y",
            "\"a b\"@c.d",
            "<a@b.c>",
            "a@b.c,d@e.f",
            "ü@example.org",
            " a@b.c",
        ] {
            assert!(!is_mail(bad), "{bad}");
        }
    }
}
