//! What is kept: the account with an authority, and certificates, each with its key in one file, so that they change as one.
//! Everything is written whole or not at all, and for its owner alone.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use rustls::{
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::schedule::Life;
use crate::{config::Acme, files};

/// The longest file of an account, and of a certificate.
const ACCOUNT_BYTES: u64 = 64 << 10;
const CERTIFICATE_BYTES: u64 = 1 << 20;

/// What a chain with its key takes, and some more.
const ROOM_BYTES: usize = 64 << 10;

/// An account with an authority.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAccount {
    /// Addresses that the authority knows of.
    pub(super) contact: Vec<String>,
    /// Its key and its identifier.
    pub(super) credentials: AccountCredentials,
}

/// The file of the account: one for each authority and each account that orders are for.
pub(super) fn account_file(acme: &Acme) -> PathBuf {
    let external = acme.external_account.as_ref().map_or("", |account| &account.key_id);
    let identity = format!("{}\n{external}", acme.directory);
    let hash: String =
        digest(&SHA256, identity.as_bytes()).as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    acme.folder.join(format!("account-{hash}.json"))
}

impl StoredAccount {
    /// Reads it; `None`: there is none that can be used.
    pub(super) fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(file, ACCOUNT_BYTES).ok()?).ok()
    }

    /// Writes it down.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        write(file, &serde_json::to_vec(self)?)
    }
}

/// Makes the folder, for its owner alone.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Finds out whether a certificate could be kept at `file`: one that is ordered and lost counts with the authority all the same.
pub(super) fn make_room(file: &Path) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something that is no file in its place"));
    }
    let room = files::beside(file, ".room");
    let written = files::replace(&room, |file| file.write_all(&[0; ROOM_BYTES]));
    let _ = fs::remove_file(&room);
    written
}

/// Forgets an account that the authority does not know any more.
pub(super) fn forget_account(file: &Path) {
    let _ = fs::remove_file(file);
}

/// A certificate that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredCertificate {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) life: Life,
}

impl StoredCertificate {
    /// Reads one; `None`: there is none that can be used.
    pub(super) fn read(file: &Path) -> Option<Self> {
        Self::of(&files::read(file, CERTIFICATE_BYTES).ok()?)
    }

    /// What the text of a chain and its key holds; `None`: nothing that could be served.
    fn of(text: &[u8]) -> Option<Self> {
        let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(text).ok()?;
        let leaf = chain.first()?.clone().into_owned();
        CertifiedKey::from_der(chain, key, &provider::default_provider()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
        let secs = |time: i64| u64::try_from(time).unwrap_or(0);
        let validity = parsed.validity();
        let life = Life { from: secs(validity.not_before.timestamp()), to: secs(validity.not_after.timestamp()) };
        Some(Self { leaf, life })
    }

    /// Writes a chain and its key down, if they go together.
    ///
    /// # Errors
    /// What the system says, or that they are no certificate; then the file is as it was.
    pub(super) fn write(file: &Path, chain: &str, key: &str) -> io::Result<Self> {
        let text = format!("{}\n{}\n", key.trim_end(), chain.trim_end());
        let stored = Self::of(text.as_bytes()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "what the authority gave is no certificate for our key")
        })?;
        write(file, text.as_bytes())?;
        Ok(stored)
    }
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    files::replace(file, |file| file.write_all(bytes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_one_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = made();
        let (inner, file) = (folder.path().join("state/acme"), folder.path().join("state/acme/a.pem"));
        make_folder(&inner).unwrap();
        assert_eq!(StoredCertificate::read(&file), None);
        let stored = StoredCertificate::write(&file, &chain, &key).unwrap();
        assert_eq!(StoredCertificate::read(&file), Some(stored));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&inner)), (0o600, 0o700));
    }

    #[test]
    fn where_nothing_could_be_kept_nothing_is_ordered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        make_room(&file).unwrap();
        let (chain, key) = made();
        let stored = StoredCertificate::write(&file, &chain, &key).unwrap();
        make_room(&file).unwrap();
        assert_eq!(StoredCertificate::read(&file), Some(stored));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        make_room(&folder.path().join("none/a.pem")).unwrap_err();
        make_room(folder.path()).unwrap_err();
    }

    #[test]
    fn what_does_not_go_together_is_not_written_and_what_is_broken_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        let ((chain, key), (other, _)) = (made(), made());
        let stored = StoredCertificate::write(&file, &chain, &key).unwrap();
        StoredCertificate::write(&file, &other, &key).unwrap_err();
        StoredCertificate::write(&file, "noise", &key).unwrap_err();
        assert_eq!(StoredCertificate::read(&file), Some(stored));
        for text in ["", "noise", &chain, &key] {
            fs::write(&file, text).unwrap();
            assert_eq!(StoredCertificate::read(&file), None);
        }
    }
}
