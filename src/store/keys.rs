//! The keys that rows are sealed with: one that seals, and others that still open what they sealed.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine as _,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{command, plain::wipe};
use crate::{
    config::{Materials, Problem, Sealing, SealingKey, Span},
    secret::Secret,
};

/// How long a key is, in bytes.
const KEY_BYTES: usize = 32;
/// What is hashed with a key to name it.
const ID_LABEL: &[u8] = b"stepgate store key id 1\0";

/// The name of a key: the beginning of a hash of it, so that it can stand in the open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key of the store's.
///
/// It seals nothing itself: each value has a key of its own, derived by HMAC-SHA-256 from this one and a random salt. With one
/// AES-GCM key and random nonces no more than 2^32 values may be sealed (NIST SP 800-38D §8.3), which a busy gateway reaches.
pub struct MasterKey {
    pub(super) id: KeyId,
    pub(super) derive: hmac::Key,
}

impl MasterKey {
    /// Takes the 32 bytes of a key; `None` when there are not so many, or all are alike.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        if bytes.len() != KEY_BYTES || rest.iter().all(|byte| byte == first) {
            return None;
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(ID_LABEL);
        hash.update(bytes);
        let id = KeyId(hash.finish().as_ref().first_chunk().copied()?);
        Some(Self { id, derive: hmac::Key::new(hmac::HMAC_SHA256, bytes) })
    }

    /// Reads a key as people write it: 32 bytes in base64, base64url or hex; white space around it does not count.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let mut bytes = [0; KEY_BYTES];
        let key = decode(text, &mut bytes).and_then(|()| Self::new(&bytes));
        wipe(&mut bytes);
        key
    }

    /// A key that nobody has had before.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        let key = aws_lc_rs::rand::fill(&mut bytes).ok().and_then(|()| Self::new(&bytes));
        wipe(&mut bytes);
        key
    }

    /// Its name.
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

fn decode(text: &[u8], bytes: &mut [u8; KEY_BYTES]) -> Option<()> {
    if text.len() == 2 * KEY_BYTES {
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        return Some(());
    }
    decode_base64(&STANDARD, text, bytes).or_else(|| decode_base64(&URL_SAFE, text, bytes))
}

fn decode_base64(alphabet: &Alphabet, text: &[u8], bytes: &mut [u8; KEY_BYTES]) -> Option<()> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // As much as the decoder may ask for; a longer text is refused before.
    let mut room = [0; KEY_BYTES + 4];
    let whole = text.len() <= 44
        && GeneralPurpose::new(alphabet, config).decode_slice(text, &mut room) == Ok(KEY_BYTES)
        && room.first_chunk().map(|decoded| *bytes = *decoded).is_some();
    wipe(&mut room);
    whole.then_some(())
}

/// The keys that a store is opened with.
#[derive(Debug)]
pub struct SealingKeys {
    pub(super) current: MasterKey,
    pub(super) previous: Vec<MasterKey>,
}

impl SealingKeys {
    /// The key that seals, and those that still open what they sealed.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        let mut known = vec![current.id];
        let is_new = |key: &MasterKey| {
            let is_new = !known.contains(&key.id);
            known.push(key.id);
            is_new
        };
        let previous = previous.into_iter().filter(is_new).collect();
        Self { current, previous }
    }

    /// Reads the keys from where the configuration says they are. A command is run and waited for, at most ten seconds: not to
    /// be called where others wait.
    ///
    /// # Errors
    /// What is wrong with a key or its place. No key is quoted.
    pub fn load(sealing: &Sealing, materials: &dyn Materials) -> Result<Self, Problem> {
        let current = load(&sealing.key, materials)?;
        let previous = sealing.previous.iter().map(|key| load(key, materials)).collect::<Result<_, _>>()?;
        Ok(Self::new(current, previous))
    }

    /// The name of the key that seals.
    pub const fn current(&self) -> KeyId {
        self.current.id
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&MasterKey> {
        std::iter::once(&self.current).chain(&self.previous).find(|key| key.id == id)
    }
}

fn load(key: &SealingKey, materials: &dyn Materials) -> Result<MasterKey, Problem> {
    let (span, text): (&Span, Secret) = match key {
        SealingKey::Source(source) => (source.span(), materials.secret(source)?),
        SealingKey::Command { span, argv } => {
            (span, command::output(argv, command::PATIENCE).map_err(|fault| Problem::error(span, fault.to_string()))?)
        }
    };
    MasterKey::from_text(text.expose()).ok_or_else(|| {
        Problem::error(span, "this is no key: 32 random bytes in base64, base64url or hex are wanted")
            .with_help("`openssl rand -base64 32` makes one")
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{File, Source};

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    fn id(text: &str) -> Option<KeyId> {
        MasterKey::from_text(text.as_bytes()).map(|key| key.id)
    }

    #[test]
    fn a_key_is_the_same_however_it_is_written() {
        let hex = id(HEX);
        assert_eq!(hex.unwrap(), MasterKey::new(&(0..31).chain([0xff]).collect::<Vec<u8>>()).unwrap().id);
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=";
        assert!(base64.contains('/') || base64.ends_with("v8="));
        for text in [&HEX.to_uppercase(), base64, base64.trim_end_matches('='), &format!(" {HEX}\r\n")] {
            assert_eq!(id(text), hex, "{text}");
        }
        let both = [0xfb; 31].iter().chain(&[0xff]).map(|byte| format!("{byte:02x}")).collect::<String>();
        let standard = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/8=";
        assert_eq!(id(standard), id(&both));
        assert_eq!(id(&standard.replace('+', "-").replace('/', "_")), id(&both));
        assert!(id(&both).is_some());
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_quoted() {
        let zeros = "0".repeat(64);
        for text in
            ["", "secret", &HEX[1..], &HEX[2..], &format!("{HEX}00"), &zeros, "A", &"A".repeat(43), &"é".repeat(32)]
        {
            assert_eq!(id(text), None, "{text}");
        }
        struct One;
        impl Materials for One {
            fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
                Ok(b"not-a-key\n".to_vec())
            }
            fn env(&self, _: &str) -> Option<String> {
                Some(HEX.to_owned())
            }
        }
        let file = || SealingKey::Source(Source::File(File { span: Span::default(), path: "key".into() }));
        let env = || SealingKey::Source(Source::Env { span: Span::default(), name: "KEY".into() });
        let problem = SealingKeys::load(&Sealing { key: file(), previous: vec![] }, &One).unwrap_err();
        assert!(!format!("{problem:?}").contains("not-a-key"), "{problem:?}");
        assert!(SealingKeys::load(&Sealing { key: env(), previous: vec![file()] }, &One).is_err());
        let keys = SealingKeys::load(&Sealing { key: env(), previous: vec![env()] }, &One).unwrap();
        assert!(keys.previous.is_empty() && !format!("{keys:?}").contains("0001020304"));
    }

    #[test]
    fn a_command_prints_the_key() {
        struct Nothing;
        impl Materials for Nothing {
            fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
                Err("there is no such file".to_owned())
            }
            fn env(&self, _: &str) -> Option<String> {
                None
            }
        }
        let command = |argv: &[&str]| SealingKey::Command {
            span: Span::default(),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
        };
        let keys = SealingKeys::load(&Sealing { key: command(&["echo", HEX]), previous: vec![] }, &Nothing).unwrap();
        assert_eq!(Some(keys.current()), id(HEX));
        let failed = command(&["sh", "-c", "echo hidden; echo seen >&2; exit 3"]);
        let problem = SealingKeys::load(&Sealing { key: failed, previous: vec![] }, &Nothing).unwrap_err();
        let problem = format!("{problem:?}");
        assert!(problem.contains("seen") && !problem.contains("hidden"), "{problem}");
    }
}
