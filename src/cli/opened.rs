//! What a gateway keeps, opened in the place of one that does not run: its store and its audit log, with a runtime for what is done in
//! the background. What is done is on the disk, and recorded, when this is dropped.

use std::sync::Arc;

use super::place::{Background, Fault};
use crate::{
    client::MachineRoots,
    clock::{Clock, SystemClock},
    config::Loaded,
    notify::NotifyObserver,
    runtime::{AuthorityTeller, DiskMaterials},
    state::{State, StateMeans, StateObserver},
    telemetry::{
        Metrics,
        audit::{AuditFiles, AuditLog},
    },
};

/// The store and the audit log, under the lock.
pub(super) struct Opened {
    pub(super) state: Arc<State>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) teller: Arc<AuthorityTeller>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) background: Background,
}

impl Opened {
    pub(super) fn open(loaded: &Loaded) -> Result<Self, Fault> {
        let config = &loaded.config;
        let background = Background::start()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new()?;
        let files = AuditFiles {
            file: config.audit.file.path.clone(),
            key: config.server.state_dir.join("audit.key"),
            head_interval: config.audit.head_interval,
        };
        let audit = Arc::new(AuditLog::open(&files, clock.clone(), metrics.audit())?);
        let teller = Arc::new(AuthorityTeller::new(metrics.authority(), audit.clone()));
        let means = StateMeans {
            handle: &background.handle,
            clock: &clock,
            state_dir: &config.server.state_dir,
            roots: &MachineRoots::default(),
            observer: &(teller.clone() as Arc<dyn StateObserver>),
            deliveries: &(teller.clone() as Arc<dyn NotifyObserver>),
        };
        let state = State::open(config, &DiskMaterials, &means, None);
        let state = state.map_err(|problems| Fault::config(loaded, problems))?.ok_or(Fault::Config)?;
        Ok(Self { state, audit, teller, metrics, clock, background })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Whatever else still has the log: nobody would wait for the last records when the process ends.
        self.audit.close();
    }
}
