//! The integers of QUIC, one to eight bytes (RFC 9000 §16), which HTTP/3's frames are made of.

use bytes::{BufMut, BytesMut};

/// The largest.
pub(super) const LARGEST: u64 = (1 << 62) - 1;

/// Reads one byte by byte, as they come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    value: u64,
    /// Bytes that are still to come; `None`: it has not begun.
    left: Option<u8>,
}

impl Reading {
    /// Takes the next byte; gives the integer when that was its last.
    pub(super) fn take(&mut self, byte: u8) -> Option<u64> {
        let left = match self.left {
            None => {
                self.value = u64::from(byte & 0x3f);
                (1 << (byte >> 6)) - 1
            }
            Some(left) => {
                self.value = self.value << 8 | u64::from(byte);
                left.saturating_sub(1)
            }
        };
        self.left = (left > 0).then_some(left);
        (left == 0).then_some(self.value)
    }

    /// Whether it has begun and not ended.
    pub(super) fn is_open(self) -> bool {
        self.left.is_some()
    }
}

/// Writes `value` in its shortest form.
pub(super) fn write(into: &mut BytesMut, value: u64) {
    let value = value.min(LARGEST);
    match value {
        0..=0x3f => into.put_uint(value, 1),
        0x40..=0x3fff => into.put_uint(value | 0x4000, 2),
        0x4000..=0x3fff_ffff => into.put_uint(value | 0x8000_0000, 4),
        _ => into.put_u64(value | 0xc000_0000_0000_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<u64> {
        let mut reading = Reading::default();
        let mut found = bytes.iter().map(|byte| reading.take(*byte)).collect::<Vec<_>>();
        let last = found.pop().flatten();
        assert!(found.iter().all(Option::is_none) && !reading.is_open());
        last
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        assert_eq!(read(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]), Some(151_288_809_941_952_652));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some(494_878_333));
        assert_eq!(read(&[0x7b, 0xbd]), Some(15_293));
        assert_eq!(read(&[0x25]), Some(37));
        assert_eq!(read(&[0x40, 0x25]), Some(37));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for value in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, LARGEST] {
            let mut bytes = BytesMut::new();
            write(&mut bytes, value);
            assert_eq!(read(&bytes), Some(value));
        }
    }
}
