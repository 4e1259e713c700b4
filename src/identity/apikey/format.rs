//! How a key is written: `PREFIX_`, 43 characters of base62 that are chosen at random (256 bits), and 6 characters of
//! base62 that are the CRC-32 of all before them. The prefix lets secret scanners find a key that leaked, and the checksum
//! tells them, and us, a key from what only looks like one, without asking anybody.

/// Base62 as the field has it: digits, upper case, lower case.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is just above 2^256.
const RANDOM_CHARS: usize = 43;
/// 62^6 is above 2^32.
const CHECKSUM_CHARS: usize = 6;
/// Enough that no two of a thousand million ids are alike, and short enough to be read out.
const ID_CHARS: usize = 12;

/// The system gave no randomness, so no key can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// What a text is, by its form alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A key of ours: the checksum is right.
    Ours,
    /// It begins as ours do, and is none.
    Broken,
    /// It does not begin as ours do.
    Foreign,
}

/// Makes a key.
pub fn make(prefix: &str) -> Result<String, NoRandomness> {
    let mut key = format!("{prefix}_");
    push_random(&mut key, RANDOM_CHARS)?;
    let checksum = checksum(key.as_bytes());
    key.extend(checksum.iter().map(|byte| char::from(*byte)));
    Ok(key)
}

/// Makes an identifier, which names a key and is no secret.
pub fn make_id() -> Result<String, NoRandomness> {
    let mut id = String::with_capacity(ID_CHARS);
    push_random(&mut id, ID_CHARS)?;
    Ok(id)
}

/// Tells a key of ours by its form.
pub fn form(prefix: &str, key: &[u8]) -> Form {
    let Some(rest) = key.strip_prefix(prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"_")) else {
        return Form::Foreign;
    };
    let split = key.len().checked_sub(CHECKSUM_CHARS).and_then(|at| key.split_at_checked(at));
    match split {
        Some((body, sum))
            if rest.len() == RANDOM_CHARS + CHECKSUM_CHARS
                && rest.iter().all(u8::is_ascii_alphanumeric)
                && checksum(body) == sum =>
        {
            Form::Ours
        }
        Some(_) | None => Form::Broken,
    }
}

/// Appends characters, each as likely as any other.
fn push_random(text: &mut String, chars: usize) -> Result<(), NoRandomness> {
    let end = text.len() + chars;
    let mut bytes = [0; 64];
    while text.len() < end {
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        for byte in bytes {
            // 248 is the largest multiple of 62 in a byte: what lies above would make some characters likelier.
            if byte < 248
                && text.len() < end
                && let Some(char) = ALPHABET.get(usize::from(byte % 62))
            {
                text.push(char::from(*char));
            }
        }
    }
    bytes.fill(0);
    std::hint::black_box(&bytes);
    Ok(())
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut value = crc32(text);
    let mut out = [b'0'; CHECKSUM_CHARS];
    for place in out.iter_mut().rev() {
        *place = ALPHABET.get((value % 62) as usize).copied().unwrap_or(b'0');
        value /= 62;
    }
    out
}

/// CRC-32 of ISO 3309, the one of zip and Ethernet: what GitHub's tokens have, so that scanners know how to check it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_crc_that_everybody_has() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn a_key_is_one_of_ours_and_no_two_are_alike() {
        let keys: HashSet<String> = (0..1000).map(|_| make("sgk").unwrap()).collect();
        assert_eq!(keys.len(), 1000);
        for key in &keys {
            assert_eq!((key.len(), form("sgk", key.as_bytes())), (53, Form::Ours), "{key}");
            assert_eq!(form("sg", key.as_bytes()), Form::Foreign);
            assert_eq!(form("acme", key.as_bytes()), Form::Foreign);
        }
        let text: String = keys.into_iter().collect();
        assert!(ALPHABET.iter().all(|char| text.as_bytes().contains(char)), "every character is used");
        assert_eq!(form("acme_live", make("acme_live").unwrap().as_bytes()), Form::Ours);
    }

    #[test]
    fn any_other_character_anywhere_breaks_a_key() {
        let key = make("sgk").unwrap();
        for at in 4..key.len() {
            for other in ["0", "z", "_", "-", " ", "\u{e9}"] {
                let mut slip = key.clone();
                slip.replace_range(at..=at, other);
                assert!(slip == key || form("sgk", slip.as_bytes()) == Form::Broken, "{slip}");
            }
        }
        for slip in [&key[..52], &format!("{key}0"), "sgk_", "sgk_x"] {
            assert_eq!(form("sgk", slip.as_bytes()), Form::Broken, "{slip}");
        }
        for foreign in ["", "sgk", "SGK_abc", "bearer"] {
            assert_eq!(form("sgk", foreign.as_bytes()), Form::Foreign, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_have_one_form(prefix in "[a-z]{2,6}", key in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_ne!(form(&prefix, &key), Form::Ours);
        }
    }
}
