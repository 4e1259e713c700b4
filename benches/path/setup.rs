//! What the benches stand on: configurations, compiled, and the clock.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use stepgate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Input},
    identity::{SourceServices, Unobserved},
    runtime::{DiskMaterials, Means, Snapshot},
    telemetry::Metrics,
};
use tokio::runtime::{Builder, Runtime};

/// What signs tokens where it does not matter how.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// For what configurations start in the background; nothing here waits for it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

pub(crate) fn now() -> Now {
    SystemClock.now()
}

/// A configuration. `${KEY}` in it is `key`.
pub(crate) fn config(yaml: &str, key: &str) -> Config {
    let env = |_: &str| Some(key.to_owned());
    let input = Input { file: Path::new("bench.yaml"), text: yaml, base: Path::new("/"), env: &env };
    config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// What issuers need.
pub(crate) fn services() -> SourceServices {
    SourceServices {
        handle: RUNTIME.handle().clone(),
        roots: stepgate::client::MachineRoots::nobody(),
        clock: Arc::new(SystemClock),
        observer: Arc::new(Unobserved),
        revocations: Arc::default(),
        authority_keys: Default::default(),
    }
}

/// All that requests need, of a configuration.
pub(crate) fn snapshot(yaml: &str) -> Snapshot {
    let _inside = RUNTIME.enter();
    let (metrics, in_flight) = (Metrics::new().unwrap(), Arc::default());
    let means = Means { issuers: &services(), metrics: &metrics, in_flight: &in_flight, keeping: None };
    Snapshot::compile(config(yaml, SECRET), &DiskMaterials, &means, None)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}
