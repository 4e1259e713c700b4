//! `stepgate check`: everything that is wrong, at once; then what the deletion guard does not cover.

use std::path::Path;

use super::{Exit, exposed::Noted, load, print_line};
use crate::{
    acme,
    assertion::Assertions,
    authority::Authority,
    clock::{Clock, SystemClock},
    config::{self, Loaded, Materials, Problem, Severity},
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
    found.extend(
        acme::prepare(config.acme.as_ref(), materials, &crate::client::MachineRoots::nobody())
            .err()
            .unwrap_or_default(),
    );
    found.extend(noted.exposed(config));
    found
}
