//! Small vectored writes, gathered into one: for what fits in a packet, copying costs less than what the kernel does for a
//! vector.

use std::io::IoSlice;

/// The most that is copied rather than written as a vector.
pub(crate) const SMALL_WRITE_BYTES: usize = 1024;

/// Copies slices into one buffer, if they fit.
pub(crate) fn gather_small<'b>(slices: &[IoSlice<'_>], buffer: &'b mut [u8; SMALL_WRITE_BYTES]) -> Option<&'b [u8]> {
    let mut filled = 0;
    for slice in slices {
        buffer.get_mut(filled..)?.get_mut(..slice.len())?.copy_from_slice(slice);
        filled += slice.len();
    }
    buffer.get(..filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_gathered_in_order_and_what_does_not_is_left_alone() {
        let mut buffer = [0; SMALL_WRITE_BYTES];
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(gather_small(&slices, &mut buffer), Some(&b"one two"[..]));
        let long = [7; SMALL_WRITE_BYTES];
        assert_eq!(gather_small(&[IoSlice::new(&long)], &mut buffer), Some(&long[..]));
        assert_eq!(gather_small(&[IoSlice::new(&long), IoSlice::new(b"x")], &mut buffer), None);
    }
}
