//! Open files: the bound behind all bounds on connections. A process that has none left accepts nobody, reaches no
//! upstream and fetches no keys, so that clients must not be able to take the last of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Held back for what is not a client's connection: one in so many …
const SHARE_KEPT: u64 = 8;
/// … and some for listeners, logs and the audit trail.
const FILES_KEPT: u64 = 64;

/// Asks the system for as many open files as it allows. Most start a process with 1024, for the sake of programs older
/// than poll(2).
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it cannot be raised, fewer connections are admitted.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// How many of the `wanted` connections the limit on open files leaves room for.
pub fn connections_within_open_files(wanted: usize) -> usize {
    within(getrlimit(Resource::Nofile).current, wanted)
}

/// How many of the `wanted` streams that last there is room for beside `connections`. Each has a connection of its own to its service,
/// which nobody gives back while it lasts: half of what clients leave is for the requests of the others.
pub fn streams_within_open_files(wanted: usize, connections: usize) -> usize {
    streams_within(getrlimit(Resource::Nofile).current, wanted, connections)
}

fn streams_within(open_files: Option<u64>, wanted: usize, connections: usize) -> usize {
    let Some(files) = open_files else { return wanted };
    let left = files.saturating_sub(within(open_files, connections) as u64).saturating_sub(FILES_KEPT);
    wanted.min(usize::try_from(left / 2).unwrap_or(usize::MAX)).max(1)
}

fn within(open_files: Option<u64>, wanted: usize) -> usize {
    let Some(files) = open_files else { return wanted };
    let room = files.saturating_sub(files / SHARE_KEPT).saturating_sub(FILES_KEPT);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_some_open_files_to_the_upstreams() {
        assert_eq!(within(Some(1024), 20_000), 832);
        assert_eq!(within(Some(65_536), 20_000), 20_000);
        assert_eq!(within(Some(10), 20_000), 1);
        assert_eq!(within(None, 20_000), 20_000);
    }

    #[test]
    fn streams_leave_some_to_requests() {
        assert_eq!(streams_within(Some(1024), 20_000, 20_000), 64);
        assert_eq!(streams_within(Some(65_536), 20_000, 20_000), 20_000);
        assert_eq!(streams_within(Some(32_768), 20_000, 20_000), 6352);
        assert_eq!(streams_within(Some(10), 20_000, 20_000), 1);
        assert_eq!(streams_within(None, 20_000, 20_000), 20_000);
        for files in [0, 1, 100, 1024, 4096, 20_000, 65_536, 1 << 20] {
            let (connections, streams) = (within(Some(files), 20_000), streams_within(Some(files), 20_000, 20_000));
            assert!(files < 200 || (connections + streams) as u64 + FILES_KEPT <= files, "{files}");
        }
    }
}
