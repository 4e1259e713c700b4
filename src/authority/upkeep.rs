//! What keeps the store in order from outside: sealing everything with the current key.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{Authority, Fault};
use crate::{clock::Now, store::Rekeyed};

impl Authority {
    /// Seals what older keys sealed with the current one, for as long as `patience` lasts; what was done by then stays so, and
    /// the next call goes on.
    pub async fn rekey(&self, now: Now, patience: Duration) -> Result<Rekeyed, Fault> {
        let so_far = Mutex::new(Rekeyed::default());
        let note = |done: &Rekeyed| *so_far.lock().unwrap_or_else(PoisonError::into_inner) = *done;
        match tokio::time::timeout(patience, self.store().rekey(now, note)).await {
            Ok(done) => Ok(done?),
            Err(_) => Ok(*so_far.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
