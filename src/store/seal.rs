//! How a value is sealed: AES-256-GCM, with everything about its row that must not change bound to it.
//!
//! ```text
//!   format (1) │ key id (8) │ salt (16) │ nonce (12) │ ciphertext │ tag (16)
//! ```
//!
//! The value's own key is HMAC-SHA-256(master key, label │ salt). What is bound besides: format and key id, the table, the
//! row's key, its version and its expiry. So nobody who can write the file can put a value into another row, put an old one
//! under a newer version, or make one last longer. (They can put a whole row back as it once was, or take it away.)

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use super::{
    Row, StoreFault, Table,
    keys::{KeyId, MasterKey, SealingKeys},
    plain::{Plain, wipe},
};

/// The one format there is.
const FORMAT: u8 = 1;
const ID_LEN: usize = 8;
const SALT_LEN: usize = 16;
const TAG_LEN: usize = 16;
/// Where the ciphertext begins.
const HEAD: usize = 1 + ID_LEN + SALT_LEN + NONCE_LEN;
/// What a value's key is derived with, beside its salt.
const DERIVE_LABEL: &[u8] = b"stepgate store value key 1\0";

/// What a value is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: Table,
    pub(super) key: &'a str,
    pub(super) version: u64,
    pub(super) expires_at: Option<u64>,
}

impl<'a> Place<'a> {
    pub(super) fn of(table: Table, row: &'a Row) -> Self {
        Self { table, key: &row.key, version: row.version, expires_at: row.expires_at }
    }

    /// What is authenticated with the value; each part with its length, so that no two places read alike.
    fn bound(&self, key: KeyId) -> Vec<u8> {
        let mut bound = Vec::with_capacity(96 + self.key.len());
        bound.push(FORMAT);
        bound.extend_from_slice(&key.0);
        for part in [self.table.name(), self.key] {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bound.extend_from_slice(part.as_bytes());
        }
        bound.extend_from_slice(&self.version.to_be_bytes());
        bound.push(u8::from(self.expires_at.is_some()));
        bound.extend_from_slice(&self.expires_at.unwrap_or(0).to_be_bytes());
        bound
    }
}

/// Seals a value for its place.
pub(super) fn seal(keys: &SealingKeys, place: Place<'_>, plain: &Plain) -> Result<Vec<u8>, StoreFault> {
    let failed = || StoreFault::Unavailable("a value cannot be sealed".to_owned());
    let key = &keys.current;
    let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
    aws_lc_rs::rand::fill(&mut salt).and_then(|()| aws_lc_rs::rand::fill(&mut nonce)).map_err(|_| failed())?;
    let mut sealed = Vec::with_capacity(HEAD + plain.bytes().len() + TAG_LEN);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&key.id.0);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plain.bytes());
    let in_place = sealed.get_mut(HEAD..).ok_or_else(failed)?;
    let tag = value_key(key, &salt)
        .and_then(|own| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            own.seal_in_place_separate_tag(nonce, Aad::from(place.bound(key.id)), in_place).ok()
        })
        .ok_or_else(|| {
            // The value stands there in the clear.
            wipe(&mut sealed);
            failed()
        })?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens a row's value.
pub(super) fn open(keys: &SealingKeys, place: Place<'_>, sealed: &[u8]) -> Result<Plain, StoreFault> {
    let unreadable = |why: &str| StoreFault::Unreadable(format!("in {}: {why}", place.table.name()));
    let id = key_of(sealed).ok_or_else(|| unreadable("its format is not known"))?;
    let key = keys.find(id).ok_or_else(|| {
        let known: Vec<String> =
            std::iter::once(&keys.current).chain(&keys.previous).map(|key| key.id.to_string()).collect();
        unreadable(&format!(
            "it is sealed with key {id}, which is not among the configured ones ({})",
            known.join(", ")
        ))
    })?;
    let damaged = || unreadable("it was changed, or put where it does not belong");
    let salt = sealed.get(1 + ID_LEN..).and_then(<[u8]>::first_chunk::<SALT_LEN>).ok_or_else(damaged)?;
    let nonce = sealed.get(1 + ID_LEN + SALT_LEN..).and_then(<[u8]>::first_chunk::<NONCE_LEN>).ok_or_else(damaged)?;
    let (text, tag) = sealed
        .get(HEAD..)
        .and_then(|rest| rest.split_at_checked(rest.len().checked_sub(TAG_LEN)?))
        .ok_or_else(damaged)?;
    let mut plain = Plain::from_sealed(text);
    let own = value_key(key, salt).ok_or_else(damaged)?;
    let bound = Aad::from(place.bound(id));
    own.open_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), bound, tag, plain.bytes_mut())
        .map_err(|_| damaged())?;
    Ok(plain)
}

/// The name of the key that a value is sealed with; `None` when it has no form that is known.
pub(super) fn key_of(sealed: &[u8]) -> Option<KeyId> {
    let (&format, rest) = sealed.split_first()?;
    (format == FORMAT).then(|| rest.first_chunk().copied().map(KeyId)).flatten()
}

fn value_key(key: &MasterKey, salt: &[u8; SALT_LEN]) -> Option<LessSafeKey> {
    let mut derive = hmac::Context::with_key(&key.derive);
    derive.update(DERIVE_LABEL);
    derive.update(salt);
    UnboundKey::new(&AES_256_GCM, derive.sign().as_ref()).ok().map(LessSafeKey::new)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn keys() -> SealingKeys {
        SealingKeys::new(MasterKey::random().unwrap(), vec![])
    }

    const PLACE: Place<'static> = Place { table: Table::Factors, key: "a/b", version: 7, expires_at: Some(0) };

    #[test]
    fn a_value_opens_in_its_place_and_in_no_other() {
        let keys = keys();
        let plain = Plain::of(&"secret").unwrap();
        let sealed = seal(&keys, PLACE, &plain).unwrap();
        assert_eq!(open(&keys, PLACE, &sealed).unwrap().bytes(), b"\"secret\"");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let elsewhere = [
            Place { table: Table::Sessions, ..PLACE },
            Place { key: "a/c", ..PLACE },
            Place { key: "a/", ..PLACE },
            Place { version: 8, ..PLACE },
            Place { expires_at: None, ..PLACE },
            Place { expires_at: Some(1), ..PLACE },
        ];
        for place in elsewhere {
            let fault = open(&keys, place, &sealed).unwrap_err();
            assert!(matches!(&fault, StoreFault::Unreadable(why) if why.contains("changed")), "{fault}");
            assert!(!fault.to_string().contains("a/"), "{fault}");
        }
    }

    #[test]
    fn no_bit_of_a_sealed_value_can_change_and_no_end_be_cut() {
        let keys = keys();
        let sealed = seal(&keys, PLACE, &Plain::of(&42).unwrap()).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(matches!(open(&keys, PLACE, &changed), Err(StoreFault::Unreadable(_))), "{at}.{bit}");
            }
            assert!(matches!(open(&keys, PLACE, &sealed[..at]), Err(StoreFault::Unreadable(_))), "{at}");
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same_and_the_missing_key_is_named() {
        let (keys, others) = (keys(), keys());
        let plain = Plain::of(&"x").unwrap();
        let (first, second) = (seal(&keys, PLACE, &plain).unwrap(), seal(&keys, PLACE, &plain).unwrap());
        assert_ne!(first[9..], second[9..]);
        let fault = open(&others, PLACE, &first).unwrap_err().to_string();
        let (wanted, known) = (keys.current().to_string(), others.current().to_string());
        assert!(fault.contains(&format!("key {wanted}, which is not")) && fault.contains(&known), "{fault}");
        let SealingKeys { current, .. } = keys;
        let both = SealingKeys::new(others.current, vec![current]);
        assert!(open(&both, PLACE, &first).is_ok());
    }

    #[test]
    fn a_value_that_another_implementation_sealed_opens() {
        // Made with Python's hmac and cryptography, from the description at the top of this file; the key is the bytes 1 to 32.
        let sealed = concat!(
            "01b396b863cc120db1000102030405060708090a0b0c0d0e0f6465666768696a6b6c6d6e6f6f76fe2d6dbf573de1a397472d",
            "bb61025bd9d182be8ce91d",
        );
        let digits = sealed.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let sealed: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let keys = SealingKeys::new(crate::store::testing::key(1), vec![]);
        assert_eq!(open(&keys, PLACE, &sealed).unwrap().bytes(), b"\"secret\"");
    }
}
