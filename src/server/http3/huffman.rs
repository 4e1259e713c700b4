//! The Huffman code of field sections (RFC 7541 appendix B, which RFC 9204 §4.1.2 takes over). It is canonical: the lengths
//! say it all.

/// The length of each byte's code, and of the end's, which never stands in a string.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const SYMBOLS: usize = 257;
const END: u16 = 256;
const LONGEST: usize = 30;

/// A string that is not in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HuffmanFault;

/// The codes of one length: from `first`, and as many as lie below `limit`, both shifted to the left end of 32 bits.
#[derive(Clone, Copy)]
struct Row {
    length: u8,
    first: u32,
    limit: u64,
    /// Where their symbols begin in [`ORDER`].
    start: usize,
}

const ROWS: [Row; LONGEST] = rows();
/// The symbols by code.
const ORDER: [u16; SYMBOLS] = order();

#[expect(clippy::indexing_slicing, reason = "computed when it is compiled")]
const fn rows() -> [Row; LONGEST] {
    let mut rows = [Row { length: 0, first: 0, limit: 0, start: 0 }; LONGEST];
    let (mut length, mut code, mut start) = (1, 0_u64, 0);
    while length <= LONGEST {
        code <<= 1;
        let (mut symbol, mut count) = (0, 0);
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                count += 1;
            }
            symbol += 1;
        }
        let shift = 32 - length;
        rows[length - 1] =
            Row { length: length as u8, first: (code << shift) as u32, limit: (code + count as u64) << shift, start };
        code += count as u64;
        start += count;
        length += 1;
    }
    rows
}

#[expect(clippy::indexing_slicing, reason = "computed when it is compiled")]
const fn order() -> [u16; SYMBOLS] {
    let mut order = [0; SYMBOLS];
    let (mut length, mut at) = (1, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                order[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    order
}

/// Decodes `text`, which ends in the beginning of the end's code, less than a byte of it (RFC 7541 §5.2).
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, HuffmanFault> {
    // The shortest codes have five bits.
    let mut decoded = Vec::with_capacity(text.len() * 8 / 5);
    let mut rest = text.iter();
    let (mut bits, mut count) = (0_u64, 0_u32);
    loop {
        while count <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let window = (bits >> 32) as u32;
        if count < 8 && count == window.leading_ones().min(count) {
            return Ok(decoded);
        }
        let row = ROWS.iter().find(|row| u64::from(window) < row.limit).ok_or(HuffmanFault)?;
        if u32::from(row.length) > count {
            return Err(HuffmanFault);
        }
        let offset = (window - row.first) >> (32 - u32::from(row.length));
        match ORDER.get(row.start + offset as usize) {
            Some(&END) | None => return Err(HuffmanFault),
            Some(symbol) => decoded.push(u8::try_from(*symbol).map_err(|_| HuffmanFault)?),
        }
        bits <<= row.length;
        count -= u32::from(row.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        let text = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&text).as_deref(), Ok(&b"www.example.com"[..]));
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Ok(&b"no-cache"[..]));
        assert_eq!(decode(&[]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=u8::MAX {
            let (row, place) = code_of(u16::from(byte));
            let code = (u64::from(row.first) << 32) + ((place as u64) << (64 - u64::from(row.length)));
            let padded = code | (u64::MAX >> row.length);
            let bytes = usize::from(row.length).div_ceil(8);
            let text: Vec<u8> = padded.to_be_bytes().into_iter().take(bytes).collect();
            assert_eq!(decode(&text), Ok(vec![byte]), "{byte}");
        }
    }

    #[test]
    fn the_end_within_a_string_and_padding_of_a_byte_or_of_zeros_are_faults() {
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), Err(HuffmanFault));
        // `0` and a whole byte of padding; `0` and padding of zeros.
        assert_eq!(decode(&[0x07, 0xff]), Err(HuffmanFault));
        assert_eq!(decode(&[0x00]), Err(HuffmanFault));
    }

    fn code_of(symbol: u16) -> (Row, usize) {
        let at = ORDER.iter().position(|each| *each == symbol).unwrap_or_default();
        let row = ROWS.iter().rev().find(|row| row.start <= at && row.limit > u64::from(row.first)).copied();
        let row = row.unwrap_or(Row { length: 0, first: 0, limit: 0, start: 0 });
        (row, at - row.start)
    }
}
