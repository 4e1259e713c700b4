//! Files with secrets that others can read: told as warnings, since only the operator knows who the others are.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::named_files::{Holds, named_files};
use crate::{
    config::{Config, Materials, Problem, Source, Span},
    secret::Secret,
};

/// The most files of the folder of ordered certificates that are looked at.
const MOST_ORDERED: usize = 1_000;

/// Materials that note which files secrets were read from.
pub(super) struct Noted<'a> {
    materials: &'a dyn Materials,
    places: RefCell<Vec<(Span, PathBuf)>>,
}

impl<'a> Noted<'a> {
    pub(super) fn new(materials: &'a dyn Materials) -> Self {
        Self { materials, places: RefCell::default() }
    }

    /// Warnings about files that others can read: those that were noted, and those with keys that are read elsewhere.
    pub(super) fn exposed(self, config: &Config) -> Vec<Problem> {
        let mut places = self.places.into_inner();
        places.extend(keys(config));
        let mut problems: Vec<Problem> = Vec::new();
        for (index, (span, path)) in places.iter().enumerate() {
            let is_first = places.iter().take(index).all(|(_, other)| other != path);
            if let Some(who) = is_first.then(|| readers(path)).flatten() {
                let message = format!("{} holds a secret, and {who}", path.display());
                let help = format!("chmod 0600 {}; of a volume in Kubernetes, `defaultMode: 0400`", path.display());
                problems.push(Problem::warning(span, message).with_help(help));
            }
        }
        problems
    }
}

impl Materials for Noted<'_> {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.materials.read_file(path)
    }

    fn read_list(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.materials.read_list(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.materials.env(name)
    }

    fn secret(&self, source: &Source) -> Result<Secret, Problem> {
        let secret = self.materials.secret(source)?;
        // A public key may stand where a secret does.
        let is_public = [&b"-----BEGIN PUBLIC KEY"[..], b"-----BEGIN CERTIFICATE"];
        if let Source::File(file) = source
            && !is_public.iter().any(|start| secret.expose().starts_with(start))
        {
            self.places.borrow_mut().push((file.span.clone(), file.path.clone()));
        }
        Ok(secret)
    }
}

/// Files with private keys and hashes of passwords, which are not read as secrets are.
fn keys(config: &Config) -> Vec<(Span, PathBuf)> {
    let mut places = Vec::new();
    for named in named_files(config) {
        match named.holds {
            Holds::Key | Holds::ListenerKey => places.push((named.span, named.path)),
            // Noted where it is read.
            Holds::Secret | Holds::Public => {}
        }
    }
    if let Some(acme) = &config.acme {
        let files = fs::read_dir(&acme.folder).into_iter().flatten().filter_map(Result::ok).take(MOST_ORDERED);
        places.extend(files.map(|file| (acme.span.clone(), file.path())));
    }
    places
}

/// Who else can read a file; `None`: nobody, as far as can be seen.
fn readers(path: &Path) -> Option<&'static str> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let me = rustix::process::geteuid();
    if found.mode() & 0o004 != 0 {
        return Some("everybody on this machine can read it");
    }
    // A file of somebody else's is read by its group, if it is read by us; and root gives files to groups for that.
    (found.mode() & 0o040 != 0 && found.uid() == me.as_raw() && !me.is_root()).then_some("its group can read it")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{config::Input, runtime::DiskMaterials};

    #[test]
    fn secrets_that_everybody_can_read_are_told_once_each_and_public_keys_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, mode) in [
            ("open", "a secret of the tests", 0o644),
            ("closed", "another secret of the tests", 0o600),
            ("public", "-----BEGIN PUBLIC KEY-----\n", 0o644),
            ("server.key", "a key", 0o604),
            ("server.pem", "a chain", 0o644),
            ("shown.key", "a key", 0o644),
            ("shown.pem", "a chain", 0o644),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let text = "listeners: [{address: 127.0.0.1:1, tls: {certificates: [{cert: server.pem, key: server.key}]}}]
admin: {token: {file: open}}
upstreams: {api: {targets: ['https://127.0.0.1:1'], tls: {certificate: {cert: shown.pem, key: shown.key}}}}
routes: [{path: /**, upstream: api, auth: none}]
";
        let input = Input { file: Path::new("gateway.yaml"), text, base: folder.path(), env: &|_| None };
        let config = crate::config::load(&input).ok().unwrap().config;
        let noted = Noted::new(&DiskMaterials);
        for name in ["open", "open", "closed", "public"] {
            let file = crate::config::File { span: Span::default(), path: folder.path().join(name) };
            noted.secret(&Source::File(file)).unwrap();
        }
        let told: Vec<String> = noted.exposed(&config).into_iter().map(|problem| problem.message).collect();
        let expected = ["open", "server.key", "shown.key"].map(|name| {
            format!("{} holds a secret, and everybody on this machine can read it", folder.path().join(name).display())
        });
        assert_eq!(told, expected);
    }
}
