//! Recovery codes: for the day when all else is lost. Each has 80 bits, so that guessing is out of reach and no slow hash is
//! needed; what is kept is an HMAC by the store's own key, beside which the rows are sealed. Each is good once.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};

use super::{Fault, random};
use crate::store::Store;

/// Letters and digits that are not taken for one another (Crockford's base 32): no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many characters a code has without its hyphens.
const CHARACTERS: usize = 16;

/// A set of codes as it is kept: a row of `Table::RecoveryCodes`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecoverySet {
    /// When it was made, in seconds since the epoch.
    pub(super) made_at: u64,
    /// From when on a code may delete something: a set that came with a factor on probation waits as long.
    pub(super) may_delete_from: Option<u64>,
    /// The HMAC of each code that was not used.
    left: Vec<String>,
}

/// A new code, in four groups of four.
pub(super) fn code() -> Result<String, Fault> {
    Ok(grouped(&random::bytes::<10>()?))
}

/// The bytes in base 32, in groups of four.
pub(super) fn grouped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (place, value) in five_bits(bytes).enumerate() {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.extend(ALPHABET.get(usize::from(value)).map(|c| char::from(*c)));
    }
    text
}

/// Five bits at a time, the last ones filled up with zeros.
pub(super) fn five_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    (0..(bytes.len() * 8).div_ceil(5)).map(move |group| (0..5).fold(0, |value, at| value << 1 | bit(group * 5 + at)))
}

/// A code as it was meant, however it was typed: without spaces and hyphens, in upper case, with the letters that are taken for
/// digits. `None`: it is no such code, by its length alone.
pub(super) fn plain(typed: &str) -> Option<String> {
    typed_plain(typed, CHARACTERS)
}

/// The same for another number of characters.
pub(super) fn typed_plain(typed: &str, characters: usize) -> Option<String> {
    if typed.len() > 4 * characters {
        return None;
    }
    let plain: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let is_one = plain.len() == characters && plain.bytes().all(|b| ALPHABET.contains(&b));
    is_one.then_some(plain)
}

fn tag(store: &Store, owner_key: &str, plain: &str) -> String {
    store.index("recovery code", &[owner_key.as_bytes(), plain.as_bytes()])
}

impl RecoverySet {
    /// A new set, and its codes to be shown once.
    pub(super) fn make(
        store: &Store,
        owner_key: &str,
        count: u32,
        may_delete_from: Option<u64>,
        now: u64,
    ) -> Result<(Self, Vec<String>), Fault> {
        let codes = (0..count.min(50)).map(|_| code()).collect::<Result<Vec<_>, _>>()?;
        let left = codes.iter().filter_map(|code| Some(tag(store, owner_key, &plain(code)?))).collect();
        Ok((Self { made_at: now, may_delete_from, left }, codes))
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// Takes a code away. Whether it was one; every one is compared, whatever was found.
    pub(super) fn use_up(&mut self, store: &Store, owner_key: &str, plain: &str) -> bool {
        let tag = tag(store, owner_key, plain);
        let before = self.left.len();
        self.left.retain(|kept| verify_slices_are_equal(kept.as_bytes(), tag.as_bytes()).is_err());
        self.left.len() < before
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let made = code().unwrap();
        assert_eq!(made.len(), 19);
        let meant = plain(&made).unwrap();
        assert_eq!(meant.len(), 16);
        let typed = made.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(plain(&typed).unwrap(), meant);
        for bad in
            ["", "123456", "0000-0000-0000-000", "0000-0000-0000-00000", "0000-0000-0000-000U", &"0".repeat(1000)]
        {
            assert_eq!(plain(bad), None, "{bad}");
        }
    }

    #[test]
    fn base_32_keeps_every_bit() {
        assert_eq!(grouped(&[0; 10]), "0000-0000-0000-0000");
        assert_eq!(grouped(&[255; 10]), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(five_bits(&[0b1010_1010, 0b1100_0000]).collect::<Vec<_>>(), [0b10101, 0b01011, 0, 0]);
    }

    #[test]
    fn no_two_codes_are_alike() {
        let all: std::collections::HashSet<String> = (0..1000).map(|_| code().unwrap()).collect();
        assert_eq!(all.len(), 1000);
    }
}
