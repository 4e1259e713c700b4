//! Free ports, safe between test processes that run side by side: a port is leased by a lock on a file of its name for as
//! long as the process lives, and lies below the range that the system hands to outgoing connections.

use std::{
    fs::{File, OpenOptions, create_dir_all},
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::Mutex,
};

static LEASES: Mutex<Vec<File>> = Mutex::new(Vec::new());
const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;

/// Leases a port that nobody listens on.
pub fn lease() -> u16 {
    let folder = std::env::temp_dir().join("stepgate-test-ports");
    create_dir_all(&folder).unwrap();
    for attempt in 0..1000_u32 {
        let random = RandomState::new().hash_one((std::process::id(), attempt));
        let port = FIRST + (random % u64::from(COUNT)) as u16;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            LEASES.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no free port in a thousand tries");
}
