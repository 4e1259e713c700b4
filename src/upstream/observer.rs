//! What this room tells to whoever counts. Handles are made once per worker and service, so that counting on the
//! request's path needs no look-up of a label.

use std::rc::Rc;

use super::fault::FaultKind;

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// A connection that had served before was found closed.
    Stale,
    /// No connection to a target could be made, and another is tried.
    Connect,
    /// A new connection broke before the answer.
    Reset,
    /// The answer's status asks for it.
    Status,
    /// It is not: there is no budget for it.
    Denied,
}

impl Repetition {
    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Denied => "denied",
        }
    }
}

/// Makes the counters of a service.
pub trait UpstreamObserver {
    /// The counters of the service of this name, on this worker.
    fn service(&self, name: &str) -> Rc<dyn ServiceObserver>;
}

/// What happens between a worker and a service.
pub trait ServiceObserver {
    /// A connection was made.
    fn opened(&self);
    /// A request goes out on a connection that served one before.
    fn reused(&self);
    /// A request is sent again, or would be.
    fn retried(&self, why: Repetition);
    /// A request got no answer, or an answer's body broke off.
    fn fault(&self, kind: FaultKind);
    /// A target (`host:port`) failed too often and is left out for a while.
    fn ejected(&self, target: &str);
    /// A target that was left out answers again.
    fn readmitted(&self, target: &str);
}

/// Counts nothing.
impl UpstreamObserver for () {
    fn service(&self, _name: &str) -> Rc<dyn ServiceObserver> {
        Rc::new(())
    }
}

/// Counts nothing.
impl ServiceObserver for () {
    fn opened(&self) {}
    fn reused(&self) {}
    fn retried(&self, _why: Repetition) {}
    fn fault(&self, _kind: FaultKind) {}
    fn ejected(&self, _target: &str) {}
    fn readmitted(&self, _target: &str) {}
}
