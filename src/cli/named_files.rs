//! The files that a configuration names, in one list: the reloader watches them, and `check` says which of them others can read.

use std::path::PathBuf;

use crate::config::{
    AssertionKey, CertificateFiles, ClientAuthentication, Config, CredentialKind, File, KeySource, ListenerMode,
    Source, Span, Upstream, UpstreamCredential, UpstreamTls,
};

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A secret that is read as one, so that who reads it can tell whether it is a public key after all.
    Secret,
    /// A private key, or hashes of passwords.
    Key,
    /// The key of a listener's certificate, which who listens watches.
    ListenerKey,
    /// What everybody may know.
    Public,
}

/// A file, and where it is named.
#[derive(Debug, Clone)]
pub(super) struct NamedFile {
    pub(super) span: Span,
    pub(super) path: PathBuf,
    pub(super) holds: Holds,
}

/// The files that a configuration names, but those that who uses them finds by itself: key sets, and what `acme` keeps.
pub(super) fn named_files(config: &Config) -> Vec<NamedFile> {
    let mut found = Found(Vec::new());
    for listener in &config.listeners {
        let ListenerMode::Tls(tls) = &listener.mode else { continue };
        for certificate in tls.certificates.iter().filter(|certificate| certificate.ordered.is_empty()) {
            found.file(&certificate.files.key, Holds::ListenerKey);
        }
    }
    for upstream in &config.upstreams {
        found.upstream(upstream);
    }
    for issuer in &config.issuers {
        match &issuer.keys {
            KeySource::PublicKey(source) | KeySource::Secret { source, .. } => found.source(source),
            KeySource::Absent
            | KeySource::Authority
            | KeySource::Discovery
            | KeySource::JwksUrl(_)
            | KeySource::JwksFile(_) => {}
        }
        match issuer.introspection.as_ref().map(|introspection| &introspection.client) {
            Some(ClientAuthentication::Secret { secret: source, .. })
            | Some(ClientAuthentication::PrivateKey { key: source, .. }) => found.source(source),
            Some(ClientAuthentication::Certificate(pair)) => found.pair(pair),
            None => {}
        }
        issuer.ca.iter().for_each(|ca| found.file(ca, Holds::Public));
    }
    for source in &config.credentials {
        match &source.kind {
            CredentialKind::Basic(basic) => found.file(&basic.file, Holds::Key),
            CredentialKind::ApiKeys(_) | CredentialKind::ClientCertificates(_) => {}
        }
    }
    match config.assertions.as_ref().map(|assertions| &assertions.key) {
        Some(AssertionKey::Given { source, besides, .. }) => {
            found.source(source);
            besides.iter().for_each(|key| found.file(key, Holds::Public));
        }
        Some(AssertionKey::Own { .. }) | None => {}
    }
    config.admin.token.iter().for_each(|token| found.source(token));
    let accounts = config.authority.as_ref().and_then(|authority| authority.accounts.as_ref());
    accounts.and_then(|accounts| accounts.refused_passwords.as_ref()).iter().for_each(|list| {
        found.file(list, Holds::Public);
    });
    found.0
}

struct Found(Vec<NamedFile>);

impl Found {
    fn file(&mut self, file: &File, holds: Holds) {
        self.0.push(NamedFile { span: file.span.clone(), path: file.path.clone(), holds });
    }

    fn source(&mut self, source: &Source) {
        match source {
            Source::File(file) => self.file(file, Holds::Secret),
            Source::Env { .. } | Source::Inline { .. } => {}
        }
    }

    fn pair(&mut self, pair: &CertificateFiles) {
        let CertificateFiles { cert, key } = pair;
        self.file(cert, Holds::Public);
        self.file(key, Holds::Key);
    }

    fn upstream(&mut self, upstream: &Upstream) {
        match &upstream.credential {
            Some(UpstreamCredential::Basic { password: source, .. })
            | Some(UpstreamCredential::Header { value: source, .. }) => self.source(source),
            None => {}
        }
        // In full, so that a file that is new there is not forgotten here.
        let UpstreamTls { server_name: _, certificate } = &upstream.tls;
        certificate.iter().for_each(|pair| self.pair(pair));
        upstream.ca.iter().for_each(|ca| self.file(ca, Holds::Public));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;

    fn named(text: &str) -> Vec<(String, Holds)> {
        let env = |_: &str| Some("0123456789abcdef0123456789abcdef".to_owned());
        let file = Path::new("gateway.yaml");
        let input = crate::config::Input { file, text, base: Path::new("/etc/stepgate"), env: &env };
        let config = crate::config::load(&input).ok().unwrap().config;
        let found = named_files(&config).into_iter();
        found
            .map(|named| (named.path.strip_prefix("/etc/stepgate").unwrap().display().to_string(), named.holds))
            .collect()
    }

    #[test]
    fn the_list_of_refused_passwords_is_named() {
        let text = "listeners: [{address: '127.0.0.1:0', cleartext: true}]
sealing: {key: {env: KEY}}
authority:
  url: http://localhost:8080
  mode: accounts
  accounts: {audience: https://api.example, password: {refused: refused.txt}}
upstreams: {api: {targets: ['http://127.0.0.1:1']}}
routes: [{path: /**, upstream: api, auth: [authority]}]
";
        assert_eq!(named(text), [("refused.txt".to_owned(), Holds::Public)]);
    }

    #[test]
    fn what_an_upstream_is_shown_and_given_is_named() {
        let text = "listeners: [{address: '127.0.0.1:0', tls: {certificates: [{cert: l.pem, key: l.key}]}}]
upstreams:
  api:
    targets: ['https://api.internal']
    ca: ca.pem
    tls: {certificate: {cert: u.pem, key: u.key}}
    credential: {header: {name: x-key, value: {file: value}}}
routes: [{path: /**, upstream: api, auth: none}]
";
        let expected = [
            ("l.key", Holds::ListenerKey),
            ("value", Holds::Secret),
            ("u.pem", Holds::Public),
            ("u.key", Holds::Key),
            ("ca.pem", Holds::Public),
        ];
        assert_eq!(named(text), expected.map(|(name, holds)| (name.to_owned(), holds)));
    }
}
