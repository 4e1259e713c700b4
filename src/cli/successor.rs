//! SIGUSR2: the binary that lies where this one was started from takes over, as a child of this process: in the same control group,
//! with the same environment, so that a service manager sees one service that goes on.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

/// Starts it. What comes of it is told in the log of both; a fault ends the new process alone.
pub(super) fn start(file: &Path) {
    // As it was said, not what it led to then: a link that was turned leads to the new one.
    let Some(program) = std::env::args_os().next() else { return };
    let mut command = Command::new(&program);
    command.args(["run", "--hand-over", "--"]).arg(file).stdin(Stdio::null());
    // The watchdog waits for the unit's main process, which is the new one then (sd_watchdog_enabled(3)).
    command.env_remove("WATCHDOG_PID");
    match command.spawn() {
        Ok(mut child) => {
            tracing::info!(pid = child.id(), program = %program.display(), "told to let another binary take over");
            tokio::spawn(async move {
                match child.wait().await {
                    Ok(status) if status.success() => {}
                    Ok(status) => tracing::error!(%status, "the process that was to take over has ended"),
                    Err(error) => tracing::error!(%error, "the process that was to take over cannot be waited for"),
                }
            });
        }
        Err(error) => tracing::error!(%error, program = %program.display(), "no other binary can be started"),
    }
}
