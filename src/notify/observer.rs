//! What this room has to tell, said to whoever listens. The labels are the names of the configuration and closed enums.

/// Listens to what becomes of messages. A channel is `mail` or a webhook's name, or `none` for one that the configuration
/// does not have any more. Called on the service runtime, so implementations count and return.
pub trait NotifyObserver: Send + Sync {
    /// A message was delivered.
    fn sent(&self, channel: &str) {
        let _ = channel;
    }

    /// An attempt failed, and there will be another one.
    fn retried(&self, channel: &str) {
        let _ = channel;
    }

    /// A message will never be delivered.
    fn lost(&self, channel: &str, why: Loss) {
        let _ = (channel, why);
    }

    /// So many messages wait.
    fn waiting(&self, channel: &str, count: usize) {
        let _ = (channel, count);
    }
}

/// Why a message will never be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its time passed.
    Expired,
    /// The receiver will not have it.
    Refused,
}

impl Loss {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Expired, Self::Refused];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl NotifyObserver for Unobserved {}
