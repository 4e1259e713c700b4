//! What this room tells to whoever counts. Handles are made once per worker and service, so that counting on the
//! request's path needs no look-up of a label.

use std::rc::Rc;

use super::fault::FaultKind;

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
    /// A request is tried again, because the connection was found closed.
    fn retried(&self);
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
    fn retried(&self) {}
    fn fault(&self, _kind: FaultKind) {}
    fn ejected(&self, _target: &str) {}
    fn readmitted(&self, _target: &str) {}
}
