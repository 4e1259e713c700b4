//! What the tests of this room share.

use std::{rc::Rc, time::Instant};

use crate::body::{Arrival, Bounds, ConnectionInfo, ConnectionWatch, Memory};

/// A connection in the clear from the machine itself.
pub(super) fn connection() -> ConnectionInfo {
    let peer = ([127, 0, 0, 1], 0).into();
    ConnectionInfo {
        peer,
        arrival: Arrival::Direct,
        local: peer,
        listener: "l".into(),
        listener_index: 0,
        tls: None,
        watch: ConnectionWatch::new(Rc::new(Bounds::unlimited()), Instant::now()),
        memory: Memory::default(),
        alternative: None,
    }
}
