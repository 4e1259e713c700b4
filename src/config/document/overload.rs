//! `server.overload`, and the `priority` of routes that it goes by.

use std::time::Duration;

use crate::config::{
    Priority,
    decode::{section, words},
    quantity::Count,
};

section! {
    /// When requests are refused so that the rest is answered: 503 with `Retry-After`, before any cryptography.
    "server.overload" Overload {
        /// How long what is ready may wait for its turn in a worker. Where even the least wait is longer for a while, requests are
        /// refused by their routes' `priority`.
        queue_target: Duration = "50ms",
        /// The most requests in flight at a time. One client may have as many as are still free, so half of them at most; one
        /// route, or one upstream, four times as many as are free.
        requests: Count<16, 10_000_000> = "20000",
    }
}

words! { Priority, "who is refused first under overload":
    "critical" => Self::Critical, "last of all";
    "normal" => Self::Normal, "once refusing `low` was not enough";
    "low" => Self::Low, "first";
}
