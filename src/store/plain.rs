//! A value in the clear, on its way to be sealed or just opened: wiped when dropped, and whenever it moves to grow.

use std::{fmt, io, mem};

use serde::Serialize;

use super::StoreFault;

/// The longest value, in bytes: some hundred times what a factor takes; one caller must not fill the queue to the disk.
pub(super) const MAX_VALUE: usize = 256 << 10;

/// A value in the clear.
#[derive(Default)]
pub(super) struct Plain(Vec<u8>);

impl Plain {
    /// A value as JSON.
    pub(super) fn of(value: &impl Serialize) -> Result<Self, StoreFault> {
        let mut plain = Self::default();
        // What serde says may quote the value.
        serde_json::to_writer(&mut plain, value).map_err(|error| {
            let why = if error.is_io() { "it is longer than 256 KiB" } else { "it cannot be written as JSON" };
            StoreFault::Unavailable(format!("a value was not taken: {why}"))
        })?;
        Ok(plain)
    }

    /// Bytes that are to be opened in place.
    pub(super) fn from_sealed(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, for opening them in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl io::Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.0.len().saturating_add(bytes.len());
        if len > MAX_VALUE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if len > self.0.capacity() {
            let mut larger = Vec::with_capacity(len.next_power_of_two().max(512));
            larger.extend_from_slice(&self.0);
            wipe(&mut mem::replace(&mut self.0, larger));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Overwrites bytes that were secret.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Keeps the optimiser from dropping the wipe as a dead store.
    std::hint::black_box(bytes);
}

impl Drop for Plain {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(…)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_whole_or_refused() {
        let text = "x".repeat(100_000);
        assert_eq!(Plain::of(&text).unwrap().bytes(), format!("\"{text}\"").as_bytes());
        let refused = Plain::of(&"x".repeat(MAX_VALUE - 1)).unwrap_err();
        assert!(refused.to_string().contains("longer than 256 KiB"), "{refused}");
        assert!(Plain::of(&"x".repeat(MAX_VALUE - 2)).is_ok());
        let no_key = std::collections::BTreeMap::from([((1, 2), "secret")]);
        assert!(!Plain::of(&no_key).unwrap_err().to_string().contains("secret"));
        assert_eq!(format!("{:?}", Plain::of(&"secret").unwrap()), "Plain(…)");
    }
}
