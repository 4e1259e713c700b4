//! Public keys of our own that one room publishes and another verifies with: the two never see each other.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::VerifyingKey;

/// The public keys that the authority's access tokens are signed with; none until it publishes some. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct PublishedKeys(Arc<ArcSwap<Vec<VerifyingKey>>>);

impl PublishedKeys {
    /// Puts these in the place of those that were published.
    pub fn publish(&self, keys: Vec<VerifyingKey>) {
        self.0.store(Arc::new(keys));
    }

    /// The keys now.
    pub fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        self.0.load_full()
    }
}
