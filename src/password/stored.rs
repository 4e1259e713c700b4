//! A password as it is stored: argon2id in PHC form (RFC 9106), or bcrypt. Read strictly and within bounds, so that no line
//! of a file can starve the gateway, nor make a password cheap to find for who gets hold of the file.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    rand::{SecureRandom, SystemRandom},
};
use base64::{
    Engine,
    alphabet::BCRYPT,
    engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD},
};
use thiserror::Error;

const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// The most memory that one hash takes, in KiB: 256 MiB.
const MOST_MEMORY: u32 = 256 * 1024;
/// The most passes over it; with the most memory about three seconds.
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 16;
/// The least memory, and the least memory times passes, in KiB: each row of OWASP's table for argon2id is above both.
const LEAST_MEMORY: u32 = 7 * 1024;
const LEAST_WORK: u32 = 35 * 1024;
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
const HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// OWASP's least and, at about a second a hash, a bound on what a line can cost.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 10..=14;
/// What bcrypt looks at of a password, the final NUL included.
const BCRYPT_BYTES: usize = 72;

/// What new passwords are hashed with: OWASP's first choice, 19 MiB and two passes in one lane.
const FRESH: Cost = Cost::Argon2id { memory: 19 * 1024, passes: 2, lanes: 1, bytes: 32 };

/// Why a text is not a stored password. None quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HashFault {
    /// It is neither of the two.
    #[error("the hash is neither argon2id in PHC form ($argon2id$v=19$…) nor bcrypt ($2a$, $2b$ or $2y$)")]
    Unknown,
    /// It begins like one of the two.
    #[error("the hash is not whole: it should look like {0}")]
    Malformed(&'static str),
    /// argon2i and argon2d.
    #[error("only the argon2id variant is taken")]
    Variant,
    /// It would take too long, or too much memory.
    #[error(
        "the hash costs more than the gateway grants: at most 256 MiB, 10 passes and 16 lanes (argon2id), or cost 14 (bcrypt)"
    )]
    TooDear,
    /// Passwords could be found from it.
    #[error(
        "the hash is too cheap to find a password from: at least 7 MiB, and 35 MiB over all passes (argon2id), or cost 10 (bcrypt)"
    )]
    TooCheap,
}

const ARGON2_FORM: &str = "$argon2id$v=19$m=19456,t=2,p=1$salt$hash";
const BCRYPT_FORM: &str = "$2b$12$ and 53 letters";

/// What a hash takes to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// argon2id.
    Argon2id {
        /// In KiB.
        memory: u32,
        /// Over the memory.
        passes: u32,
        /// The degree of parallelism; they are computed one after the other.
        lanes: u32,
        /// The length of the hash.
        bytes: usize,
    },
    /// bcrypt: two to the power of this many rounds.
    Bcrypt(u32),
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argon2id { memory, passes, lanes, .. } => write!(f, "argon2id m={memory},t={passes},p={lanes}"),
            Self::Bcrypt(cost) => write!(f, "bcrypt {cost}"),
        }
    }
}

/// A stored password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash {
    cost: Cost,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl StoredHash {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, HashFault> {
        if let Some(rest) = text.strip_prefix("$argon2id$") {
            return argon2id(rest);
        }
        if text.starts_with("$argon2") {
            return Err(HashFault::Variant);
        }
        // $2x$ marks hashes of a broken implementation, and $2$ one without a length.
        let bcrypt_of = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix));
        bcrypt_of.map_or(Err(HashFault::Unknown), bcrypt)
    }

    /// A hash that no password has, as dear as `cost`: for names that no user has. `None`: what costs a fresh one.
    pub fn decoy(cost: Option<Cost>, salt: &[u8; 16]) -> Self {
        let cost = cost.unwrap_or(FRESH);
        let bytes = if let Cost::Argon2id { bytes, .. } = cost { bytes } else { 23 };
        Self { cost, salt: (*salt).into(), hash: vec![0; bytes].into() }
    }

    /// What it takes to be computed.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether a password is this one. Takes tens of milliseconds, and memory.
    pub fn verify(&self, password: &[u8]) -> bool {
        let mut computed = vec![0; self.hash.len()];
        compute(self.cost, &self.salt, password, &mut computed)
            && verify_slices_are_equal(&computed, &self.hash).is_ok()
    }

    /// A password as it is to be stored; `None`: the system has no randomness or no memory.
    pub fn fresh(password: &[u8]) -> Option<String> {
        let Cost::Argon2id { memory, passes, lanes, bytes } = FRESH else { return None };
        let (mut salt, mut hash) = ([0; 16], vec![0; bytes]);
        SystemRandom::new().fill(&mut salt).ok()?;
        let base64 = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        compute(FRESH, &salt, password, &mut hash)
            .then(|| format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}", base64(&salt), base64(&hash)))
    }

    /// What tells this stored password from any other.
    pub fn identity(&self) -> Vec<u8> {
        [&*self.salt, &*self.hash].concat()
    }
}

/// Computes a hash into `out`; false where it cannot be, which the bounds above exclude.
fn compute(cost: Cost, salt: &[u8], password: &[u8], out: &mut [u8]) -> bool {
    match cost {
        Cost::Argon2id { memory, passes, lanes, bytes } => {
            let Ok(params) = Params::new(memory, passes, lanes, Some(bytes)) else { return false };
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password, salt, out).is_ok()
        }
        Cost::Bcrypt(cost) => {
            let Ok(salt) = <[u8; 16]>::try_from(salt) else { return false };
            // As every implementation does: the NUL counts, and what is behind the 72nd byte does not.
            let mut key: Vec<u8> = password.iter().copied().chain([0]).take(BCRYPT_BYTES).collect();
            let computed = bcrypt::bcrypt(cost, salt, &key);
            key.fill(0);
            std::hint::black_box(&key);
            // The last of the 24 bytes is never stored.
            out.iter_mut().zip(computed).for_each(|(to, from)| *to = from);
            true
        }
    }
}

/// `v=19$m=…,t=…,p=…$salt$hash`, in this order and nothing else.
fn argon2id(text: &str) -> Result<StoredHash, HashFault> {
    let malformed = HashFault::Malformed(ARGON2_FORM);
    let mut parts = text.split('$');
    let mut part = || parts.next().ok_or(malformed);
    let (version, costs, salt, hash) = (part()?, part()?, part()?, part()?);
    if version != "v=19" || parts.next().is_some() {
        return Err(malformed);
    }
    let mut costs = costs.split(',');
    let mut number = |name: &str| {
        let digits = costs.next().and_then(|cost| cost.strip_prefix(name)).ok_or(malformed)?;
        decimal(digits).ok_or(malformed)
    };
    let (memory, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| malformed);
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if costs.next().is_some() || !SALT_BYTES.contains(&salt.len()) || !HASH_BYTES.contains(&hash.len()) {
        return Err(malformed);
    }
    if passes == 0 || lanes == 0 || memory < lanes.saturating_mul(8) {
        return Err(malformed);
    }
    if memory > MOST_MEMORY || passes > MOST_PASSES || lanes > MOST_LANES {
        return Err(HashFault::TooDear);
    }
    if memory < LEAST_MEMORY || memory.saturating_mul(passes) < LEAST_WORK {
        return Err(HashFault::TooCheap);
    }
    let cost = Cost::Argon2id { memory, passes, lanes, bytes: hash.len() };
    Ok(StoredHash { cost, salt: salt.into(), hash: hash.into() })
}

/// A number as PHC has it: digits without a leading zero.
fn decimal(digits: &str) -> Option<u32> {
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok()).flatten()
}

/// `12$`, then 22 letters of salt and 31 of hash.
fn bcrypt(text: &str) -> Result<StoredHash, HashFault> {
    let malformed = HashFault::Malformed(BCRYPT_FORM);
    let (cost, letters) = text.split_once('$').ok_or(malformed)?;
    let two_digits = cost.len() == 2 && cost.bytes().all(|b| b.is_ascii_digit());
    let cost: u32 = cost.parse().ok().filter(|_| two_digits).ok_or(malformed)?;
    if letters.len() != 53 || !letters.is_ascii() {
        return Err(malformed);
    }
    let (salt, hash) = letters.split_at(22);
    let decode = |text: &str| BCRYPT_BASE64.decode(text).map_err(|_| malformed);
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if salt.len() != 16 || hash.len() != 23 {
        return Err(malformed);
    }
    if cost > *BCRYPT_COSTS.end() {
        return Err(HashFault::TooDear);
    }
    if cost < *BCRYPT_COSTS.start() {
        return Err(HashFault::TooCheap);
    }
    Ok(StoredHash { cost: Cost::Bcrypt(cost), salt: salt.into(), hash: hash.into() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fresh_one_is_read_again_and_knows_its_password() {
        let text = StoredHash::fresh("grüner Käse am Montag".as_bytes()).unwrap();
        let stored = StoredHash::parse(&text).unwrap();
        assert_eq!(stored.cost(), FRESH);
        assert!(stored.verify("grüner Käse am Montag".as_bytes()));
        assert!(!stored.verify(b"gruener Kaese am Montag"));
        assert_ne!(StoredHash::fresh(b"x").unwrap(), StoredHash::fresh(b"x").unwrap(), "each has its own salt");
    }

    /// From the tests of the reference implementations of argon2 (`src/test.c`) and of bcrypt (jBCrypt's `TestBCrypt`).
    #[test]
    fn hashes_of_other_programs_are_known() {
        for (text, password) in [
            ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"),
            ("$2a$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW", ""),
            ("$2a$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq", "abcdefghijklmnopqrstuvwxyz"),
            ("$2y$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq", "abcdefghijklmnopqrstuvwxyz"),
        ] {
            let stored = StoredHash::parse(text).unwrap();
            assert!(stored.verify(password.as_bytes()), "{text}");
            assert!(!stored.verify(b"another"), "{text}");
        }
    }

    #[test]
    fn bcrypt_sees_72_bytes_and_argon2id_all() {
        let stored = StoredHash::parse("$2b$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW").unwrap();
        let mut long = [0; 23];
        assert!(compute(stored.cost, &stored.salt, &[b'a'; 72], &mut long));
        let long = StoredHash { hash: long.into(), ..stored };
        assert!(long.verify(&[b'a'; 73]) && long.verify(&[b'a'; 1024]) && !long.verify(&[b'a'; 71]));
        let text = StoredHash::fresh(&[b'a'; 1024]).unwrap();
        assert!(!StoredHash::parse(&text).unwrap().verify(&[b'a'; 1023]));
    }

    #[test]
    fn what_is_too_dear_or_too_cheap_is_refused() {
        let argon2 = |costs: &str| {
            let salt_and_hash = "c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
            StoredHash::parse(&format!("$argon2id$v=19${costs}${salt_and_hash}")).map(|stored| stored.cost)
        };
        for good in [
            "m=47104,t=1,p=1",
            "m=19456,t=2,p=1",
            "m=12288,t=3,p=1",
            "m=9216,t=4,p=1",
            "m=7168,t=5,p=1",
            "m=65536,t=3,p=4",
            "m=262144,t=10,p=16",
        ] {
            assert!(argon2(good).is_ok(), "{good}");
        }
        for dear in ["m=262145,t=1,p=1", "m=65536,t=11,p=1", "m=65536,t=3,p=17", "m=4294967295,t=1,p=1"] {
            assert_eq!(argon2(dear), Err(HashFault::TooDear), "{dear}");
        }
        for cheap in ["m=7167,t=10,p=1", "m=4096,t=3,p=1", "m=19456,t=1,p=1"] {
            assert_eq!(argon2(cheap), Err(HashFault::TooCheap), "{cheap}");
        }
        for wrong in [
            "m=19456,t=2",
            "t=2,m=19456,p=1",
            "m=19456,t=2,p=1,x=1",
            "m=019456,t=2,p=1",
            "m=+19456,t=2,p=1",
            "m=99999999999,t=2,p=1",
            "m=19456,t=0,p=1",
            "m=19456,t=2,p=0",
            "m=,t=,p=",
            "",
        ] {
            assert_eq!(argon2(wrong), Err(HashFault::Malformed(ARGON2_FORM)), "{wrong}");
        }
        let bcrypt = |cost: &str| {
            StoredHash::parse(&format!("$2b${cost}$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW"))
                .map(|stored| stored.cost)
        };
        assert_eq!(bcrypt("14"), Ok(Cost::Bcrypt(14)));
        assert_eq!(bcrypt("15"), Err(HashFault::TooDear));
        assert_eq!(bcrypt("31"), Err(HashFault::TooDear));
        assert_eq!(bcrypt("09"), Err(HashFault::TooCheap));
        for wrong in ["4", "010", "+9", ""] {
            assert_eq!(bcrypt(wrong), Err(HashFault::Malformed(BCRYPT_FORM)), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_hash_of_ours_is_refused() {
        for (text, fault) in [
            ("$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$AAAA", HashFault::Variant),
            ("$argon2d$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$AAAA", HashFault::Variant),
            ("$argon2id$v=16$m=65536,t=3,p=4$c29tZXNhbHQ$AAAA", HashFault::Malformed(ARGON2_FORM)),
            ("$2x$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TCW", HashFault::Unknown),
            ("$2b$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4TC", HashFault::Malformed(BCRYPT_FORM)),
            ("$2b$10$k1wbIrmNyFAPwPVPSVa/zecw2BCEnBwVS2GbrmgzxFUOqW9dk4T+W", HashFault::Malformed(BCRYPT_FORM)),
            ("$apr1$abc$def", HashFault::Unknown),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", HashFault::Unknown),
            ("plaintext", HashFault::Unknown),
            ("", HashFault::Unknown),
        ] {
            assert_eq!(StoredHash::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_decoy_is_as_dear_and_knows_nothing() {
        let decoy = StoredHash::decoy(Some(Cost::Bcrypt(10)), &[7; 16]);
        assert!(!decoy.verify(b"") && !decoy.verify(b"x"));
        assert_eq!(StoredHash::decoy(None, &[7; 16]).cost(), FRESH);
    }

    proptest! {
        #[test]
        fn no_text_takes_more_than_the_bounds(text in "\\$(argon2id|2b)\\$(v=19|[0-9]{2})\\$.{0,120}") {
            if let Ok(stored) = StoredHash::parse(&text) {
                match stored.cost {
                    Cost::Argon2id { memory, passes, lanes, .. } =>
                        prop_assert!(memory <= MOST_MEMORY && passes <= MOST_PASSES && lanes <= MOST_LANES),
                    Cost::Bcrypt(cost) => prop_assert!(BCRYPT_COSTS.contains(&cost)),
                }
            }
        }
    }
}
