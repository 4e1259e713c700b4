//! Credentials that were elevated: durable rows, and a map in the process that requests look into. The rows are the truth;
//! the map is read from them at start, and whoever writes one writes the other.

use serde::Serialize;

use super::{Authority, Caller, Fault, Way};
use crate::clock::Now;

/// An elevation, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ElevationShown {
    /// The level.
    pub level: String,
    /// The factors that were shown, by name.
    pub factors: Vec<String>,
    /// When.
    pub since: u64,
    /// Until when.
    pub until: u64,
}

impl Authority {
    /// Elevates the caller's credential by the code that a page ended in; the elevation.
    pub async fn hand_over(
        &self,
        caller: &Caller,
        code: &str,
        way: Way<'_>,
        now: Now,
    ) -> Result<ElevationShown, Fault> {
        let _ = (caller, code, way, now);
        Err(Fault::Proof)
    }

    /// The elevations of the caller's credential.
    pub fn elevated(&self, caller: &Caller, now: Now) -> Vec<ElevationShown> {
        let _ = (caller, now);
        Vec::new()
    }

    /// Ends the elevations of the caller's credential.
    pub async fn step_down(&self, caller: &Caller, way: Way<'_>, now: Now) -> Result<(), Fault> {
        let _ = (caller, way, now);
        Ok(())
    }
}
