//! `stepgate check`: everything that is wrong, at once; then what the deletion guard does not cover.

use std::path::Path;

use super::{Exit, exposed::Noted, load, print_line};
use crate::{
    acme,
    assertion::Assertions,
    authority::Authority,
    clock::{Clock, SystemClock},
    config::{
        self, AssertionKey, ClientAuthentication, Loaded, Materials, Problem, Severity, Source, UpstreamCredential,
    },
    identity::{Authenticator, revocation::Revocations},
    runtime::DiskMaterials,
    server::check_tls,
    state::State,
    upstream::Upstreams,
};

/// Checks a configuration.
pub(crate) fn check(file: &Path) -> Exit {
    let loaded = match load::load(file, &DiskMaterials) {
        Ok(loaded) => loaded,
        Err(fault) => {
            load::print_fault(&fault);
            return Exit::Config;
        }
    };
    let mut found = material_problems(&loaded, &DiskMaterials);
    found.extend(config::unguarded(&loaded.config));
    found.extend(config::uncovered(&loaded.config));
    found.extend(config::described(&loaded.config, &DiskMaterials));
    if let Err(fault) = Revocations::read(&loaded.config.server.state_dir, SystemClock.now()) {
        let cause = std::error::Error::source(&fault).map(|cause| format!(": {cause}")).unwrap_or_default();
        found.push(Problem::error(&Default::default(), format!("{fault}{cause}")));
    }
    let failed = found.iter().any(|problem| problem.severity == Severity::Error);
    let report = loaded.report(found);
    if !report.list.is_empty() {
        load::print_problems(&report);
    }
    if failed {
        return Exit::Config;
    }
    let config = &loaded.config;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    print_line(&format!(
        "{}: ok: {}, {}, {}, {}; {}",
        file.display(),
        count(config.listeners.len(), "listener"),
        count(config.issuers.len(), "issuer"),
        count(config.upstreams.len(), "upstream"),
        count(config.routes.len(), "route"),
        count(report.list.len(), "warning"),
    ));
    Exit::Success
}

/// What is wrong with the files and variables that a configuration names; starts nothing.
pub(crate) fn material_problems(loaded: &Loaded, materials: &dyn Materials) -> Vec<Problem> {
    let config = &loaded.config;
    let noted = Noted::new(materials);
    let materials: &dyn Materials = &noted;
    let mut found = check_tls(config);
    found.extend(Authenticator::check(config, materials, SystemClock.now()));
    found.extend(Assertions::check(config.assertions.as_ref(), materials));
    found.extend(State::check(config, materials));
    found.extend(Authority::check(config, materials));
    found.extend(Upstreams::compile(&config.upstreams, materials, None).err().unwrap_or_default());
    found.extend(config.admin.token.as_ref().and_then(|token| materials.secret(token).err()));
    found.extend(acme::prepare(config.acme.as_ref(), materials, &crate::client::roots(&[])).err().unwrap_or_default());
    found.extend(noted.exposed(config));
    found
}

/// The secrets' files, for watching them.
pub(crate) fn secret_files(config: &config::Config) -> Vec<std::path::PathBuf> {
    let credentials = config.upstreams.iter().filter_map(|upstream| match &upstream.credential {
        Some(UpstreamCredential::Basic { password, .. }) => Some(password),
        Some(UpstreamCredential::Header { value, .. }) => Some(value),
        None => None,
    });
    let keys = config.issuers.iter().filter_map(|issuer| match &issuer.keys {
        config::KeySource::PublicKey(source) | config::KeySource::Secret { source, .. } => Some(source),
        config::KeySource::Absent
        | config::KeySource::Authority
        | config::KeySource::Discovery
        | config::KeySource::JwksUrl(_)
        | config::KeySource::JwksFile(_) => None,
    });
    let clients = || config.issuers.iter().filter_map(|issuer| Some(&issuer.introspection.as_ref()?.client));
    let proofs = clients().filter_map(|client| match client {
        ClientAuthentication::Secret { secret: source, .. } | ClientAuthentication::PrivateKey { key: source, .. } => {
            Some(source)
        }
        ClientAuthentication::Certificate(_) => None,
    });
    let certificates = clients().flat_map(|client| match client {
        ClientAuthentication::Certificate(pair) => vec![pair.cert.path.clone(), pair.key.path.clone()],
        ClientAuthentication::Secret { .. } | ClientAuthentication::PrivateKey { .. } => Vec::new(),
    });
    let assertions = config.assertions.iter().filter_map(|assertions| match &assertions.key {
        AssertionKey::Given { source, .. } => Some(source),
        AssertionKey::Own { .. } => None,
    });
    let users = config.credentials.iter().filter_map(|source| match &source.kind {
        config::CredentialKind::Basic(basic) => Some(&basic.file),
        config::CredentialKind::ApiKeys(_) | config::CredentialKind::ClientCertificates(_) => None,
    });
    let shown = config.upstreams.iter().filter_map(|upstream| upstream.tls.certificate.as_ref());
    let certificates = certificates.chain(shown.flat_map(|pair| [pair.cert.path.clone(), pair.key.path.clone()]));
    let files = credentials.chain(keys).chain(assertions).chain(proofs).chain(config.admin.token.as_ref()).filter_map(
        |source| match source {
            Source::File(file) => Some(file.path.clone()),
            Source::Env { .. } | Source::Inline { .. } => None,
        },
    );
    let authorities = config.issuers.iter().filter_map(|issuer| issuer.ca.as_ref());
    let authorities = authorities.chain(config.upstreams.iter().filter_map(|upstream| upstream.ca.as_ref()));
    let published = config.assertions.iter().flat_map(|assertions| match &assertions.key {
        AssertionKey::Given { besides, .. } => besides.as_slice(),
        AssertionKey::Own { .. } => &[],
    });
    let refused =
        config.authority.iter().filter_map(|authority| authority.accounts.as_ref()?.refused_passwords.as_ref());
    let named = users.chain(refused).chain(authorities).chain(published).map(|file| file.path.clone());
    files.chain(named).chain(certificates).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    #[test]
    fn the_list_of_refused_passwords_is_watched() {
        let text = "listeners: [{address: '127.0.0.1:0', cleartext: true}]
sealing: {key: {env: KEY}}
authority:
  url: http://localhost:8080
  mode: accounts
  accounts: {audience: https://api.example, password: {refused: refused.txt}}
upstreams: {api: {targets: ['http://127.0.0.1:1']}}
routes: [{path: /**, upstream: api, auth: [authority]}]
";
        let env = |_: &str| Some("0123456789abcdef0123456789abcdef".to_owned());
        let file = Path::new("gateway.yaml");
        let input = crate::config::Input { file, text, base: Path::new("/etc/stepgate"), env: &env };
        let config = crate::config::load(&input).ok().unwrap().config;
        assert_eq!(super::secret_files(&config), [Path::new("/etc/stepgate/refused.txt")]);
    }
}
