//! The head of the chain: how many records there are and the last one's hash, signed and kept apart from the file.
//!
//! The chain alone cannot show that its end is missing, or that all of it was made anew. A head can, for everything up
//! to its count. Copies of it belong on another machine; the public key is what a verifier pins.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};

use super::{AuditFault, file::create_folder};
use crate::files;

/// What is signed begins with this, so that a signature made for another purpose is none here.
const CONTEXT: &str = "stepgate-audit-head-v1";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// An Ed25519 public key (RFC 8032).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads a key as `<audit file>.pub` has it: base64url, surrounded by white space at most.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text.trim()).ok()?.try_into().ok().map(Self)
    }

    /// The key in base64url.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whether a signature is this key's over a message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The version of this form, 1.
    pub v: u64,
    /// How many records there are.
    pub count: u64,
    /// The hash of the last of them.
    pub hash: String,
    /// When it was signed.
    pub time: String,
    /// The public key, base64url.
    pub key: String,
    /// The signature, base64url.
    pub sig: String,
}

impl Head {
    /// Reads a head.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|head: &Self| head.v == 1)
    }

    fn message(count: u64, hash: &str, time: &str) -> String {
        format!("{CONTEXT}\n{count}\n{hash}\n{time}\n")
    }

    /// Whether the head bears a signature of the key that it names, and that key is the pinned one if there is one.
    pub fn is_signed_by(&self, pinned: Option<&PublicKey>) -> bool {
        let Some(key) = PublicKey::parse(&self.key) else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(&self.sig) else { return false };
        let message = Self::message(self.count, &self.hash, &self.time);
        pinned.is_none_or(|pinned| *pinned == key) && key.has_signed(message.as_bytes(), &signature)
    }
}

/// Signs heads and certificates.
#[derive(Debug)]
pub(super) struct Signer(Ed25519KeyPair);

impl Signer {
    /// Reads the key pair, or makes one that only its owner may read.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, AuditFault> {
        let fault = |source| AuditFault::Key { path: path.to_owned(), source };
        let pem = match files::read_text(path, 1 << 16) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path).map_err(fault)?,
            Err(error) => return Err(fault(error)),
        };
        let body: Option<String> = pem
            .trim()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .map(|body| body.split_ascii_whitespace().collect());
        let der = body.and_then(|body| STANDARD.decode(body).ok());
        let pair = der.and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok());
        pair.map(Self)
            .ok_or_else(|| fault(io::Error::new(io::ErrorKind::InvalidData, "not an Ed25519 key in PKCS#8 PEM")))
    }

    /// The public key.
    pub(super) fn public_key(&self) -> PublicKey {
        let mut key = [0; 32];
        if let Some(bytes) = self.0.public_key().as_ref().first_chunk() {
            key = *bytes;
        }
        PublicKey(key)
    }

    /// Signs a message, which says itself what it is for.
    pub(super) fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Signs a head.
    pub(super) fn sign(&self, count: u64, hash: &str, time: String) -> Head {
        let sig = URL_SAFE_NO_PAD.encode(self.signature(Head::message(count, hash, &time).as_bytes()));
        Head { v: 1, count, hash: hash.to_owned(), time, key: self.public_key().to_text(), sig }
    }
}

/// Makes a key pair in a file of its own, as PKCS#8 in PEM so that other tools can read it.
fn create(path: &Path) -> io::Result<String> {
    let refused = |_| io::Error::other("no key could be made");
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(refused)?;
    let pem = format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(document.as_ref()));
    create_folder(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(pem)
}

/// Replaces a file as a whole: nobody ever sees half of it, and after a crash it is the old one or the new.
pub(super) fn replace(path: &Path, content: &str) -> io::Result<()> {
    let next = beside(path, ".tmp");
    let mut file = File::create(&next)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    sync_folder(path)
}

/// Makes an entry in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The file of this name with something at its end.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
