//! Field sections (RFC 9204) without a dynamic table: we offer none to the client and use none of its, so that a section
//! stands for itself, no stream waits for another, and there is no state that a client could make us hold.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{huffman, static_table};

/// What a field takes of the bound beyond its name and value (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: u64 = 32;

/// Why a field section cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionFault {
    /// Not QPACK, or of a dynamic table that there is not: the connection ends (RFC 9204 §2.2).
    Compression,
    /// More than was allowed.
    TooLarge,
    /// Whoever takes the fields does not take this one.
    Malformed,
}

/// A field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// Of the static table.
    Known(&'static str),
    /// Spelt out.
    Spelt(Bytes),
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Of the static table.
    Known(&'static str),
    /// Spelt out.
    Spelt(Bytes),
}

impl Name {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Known(name) => name.as_bytes(),
            Self::Spelt(name) => name,
        }
    }
}

impl Value {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Known(value) => value.as_bytes(),
            Self::Spelt(value) => value,
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Known(value) => Bytes::from_static(value.as_bytes()),
            Self::Spelt(value) => value,
        }
    }
}

/// Reads a field section of at most `most` bytes, as RFC 9114 §4.2.2 counts them, and gives its fields to `take`.
pub(super) fn read(
    mut section: Bytes,
    most: u64,
    mut take: impl FnMut(Name, Value) -> Result<(), SectionFault>,
) -> Result<(), SectionFault> {
    // RFC 9204 §4.5.1: nothing of a dynamic table is needed. The base means nothing then.
    let (_, needed) = integer(&mut section, 8)?;
    let _base = integer(&mut section, 7)?;
    if needed != 0 {
        return Err(SectionFault::Compression);
    }
    let mut size = 0_u64;
    while let Some(first) = section.first().copied() {
        let (name, value) = if first & 0x80 != 0 {
            // RFC 9204 §4.5.2; `T` says which table.
            let (flags, index) = integer(&mut section, 6)?;
            let (name, value) = of_table(flags & 1 != 0, index)?;
            (Name::Known(name), Value::Known(value))
        } else if first & 0x40 != 0 {
            // §4.5.4
            let (flags, index) = integer(&mut section, 4)?;
            let (name, _) = of_table(flags & 1 != 0, index)?;
            (Name::Known(name), Value::Spelt(string(&mut section, 7)?))
        } else if first & 0x20 != 0 {
            // §4.5.6
            (Name::Spelt(string(&mut section, 3)?), Value::Spelt(string(&mut section, 7)?))
        } else {
            // §4.5.3 and §4.5.5 are of the dynamic table.
            return Err(SectionFault::Compression);
        };
        size = size
            .saturating_add(name.as_bytes().len() as u64)
            .saturating_add(value.as_bytes().len() as u64)
            .saturating_add(FIELD_OVERHEAD);
        if size > most {
            return Err(SectionFault::TooLarge);
        }
        take(name, value)?;
    }
    Ok(())
}

fn of_table(is_static: bool, index: u64) -> Result<(&'static str, &'static str), SectionFault> {
    let index = usize::try_from(index).ok().filter(|_| is_static);
    index.and_then(|index| static_table::FIELDS.get(index)).copied().ok_or(SectionFault::Compression)
}

/// An integer with a prefix of `bits` (RFC 7541 §5.1), and what stands above the prefix.
fn integer(from: &mut Bytes, bits: u32) -> Result<(u8, u64), SectionFault> {
    let mut next = || {
        let byte = from.first().copied().ok_or(SectionFault::Compression)?;
        from.advance(1);
        Ok(byte)
    };
    let first = next()?;
    let mask = u8::MAX >> (8 - bits);
    let flags = u32::from(first).checked_shr(bits).and_then(|flags| u8::try_from(flags).ok()).unwrap_or_default();
    let mut value = u64::from(first & mask);
    if value < u64::from(mask) {
        return Ok((flags, value));
    }
    // Longer ones than these stand for no length and no index that there could be.
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((flags, value));
        }
    }
    Err(SectionFault::Compression)
}

/// A string whose length has a prefix of `bits`, after a bit that says whether it is in the Huffman code (RFC 9204 §4.1.2).
fn string(from: &mut Bytes, bits: u32) -> Result<Bytes, SectionFault> {
    let (flags, length) = integer(from, bits)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= from.len());
    let text = from.split_to(length.ok_or(SectionFault::Compression)?);
    if flags & 1 == 0 {
        return Ok(text);
    }
    huffman::decode(&text).map(Bytes::from).map_err(|_| SectionFault::Compression)
}

/// Begins a field section.
pub(super) fn begin(into: &mut BytesMut) {
    into.put_slice(&[0, 0]);
}

/// Writes a field. A `secret` one is never to be put into a table by anybody on the way (RFC 9204 §4.5.4).
pub(super) fn write(into: &mut BytesMut, name: &str, value: &[u8], secret: bool) {
    let Some(first) = static_table::place(name) else {
        write_integer(into, 3, 0x20 | u8::from(secret) << 4, name.len());
        into.put_slice(name.as_bytes());
        return write_value(into, value);
    };
    let same = static_table::FIELDS.iter().enumerate().skip(first).take_while(|(_, (other, _))| *other == name);
    for (index, (_, known)) in same {
        if known.as_bytes() == value && !secret {
            return write_integer(into, 6, 0xc0, index);
        }
    }
    write_integer(into, 4, 0x50 | u8::from(secret) << 5, first);
    write_value(into, value);
}

fn write_value(into: &mut BytesMut, value: &[u8]) {
    write_integer(into, 7, 0, value.len());
    into.put_slice(value);
}

fn write_integer(into: &mut BytesMut, bits: u32, flags: u8, value: usize) {
    let mask = u8::MAX >> (8 - bits);
    if let Some(small) = u8::try_from(value).ok().filter(|value| *value < mask) {
        return into.put_u8(flags | small);
    }
    into.put_u8(flags | mask);
    let mut left = value - usize::from(mask);
    while left >= 0x80 {
        into.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    into.put_u8(left as u8);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    type Fields = Vec<(String, String)>;

    fn all(section: &[u8], most: u64) -> Result<Fields, SectionFault> {
        let mut fields = Vec::new();
        read(Bytes::copy_from_slice(section), most, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.push((text(name.as_bytes()), text(value.as_bytes())));
            Ok(())
        })?;
        Ok(fields)
    }

    #[test]
    fn the_example_of_the_rfc_is_read() {
        // RFC 9204 appendix B.1
        let section = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(all(&section, 1 << 14).unwrap(), [(":path".to_owned(), "/index.html".to_owned())]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "v".repeat(70_000);
        let fields = [
            (":status", "200"),
            (":status", "299"),
            ("content-type", "application/json"),
            ("content-type", "application/other"),
            ("cache-control", "no-store"),
            ("x-own", ""),
            ("a-name-that-is-longer-than-a-prefix-can-say", &long),
        ];
        for secret in [false, true] {
            let mut section = BytesMut::new();
            begin(&mut section);
            fields.iter().for_each(|(name, value)| write(&mut section, name, value.as_bytes(), secret));
            let read = all(&section, 1 << 20).unwrap();
            assert!(read.iter().map(|(name, value)| (&**name, &**value)).eq(fields), "{secret}");
        }
    }

    #[test]
    fn a_secret_value_is_marked_as_never_indexed() {
        let mut section = BytesMut::new();
        write(&mut section, "set-cookie", b"a", true);
        assert_eq!(section.first().map(|byte| byte & 0xf0), Some(0x70));
        section.clear();
        write(&mut section, "x-secret", b"a", true);
        assert_eq!(section.first().map(|byte| byte & 0xf0), Some(0x30));
    }

    #[test]
    fn what_needs_a_dynamic_table_or_is_cut_off_ends_the_connection() {
        let broken: [&[u8]; 11] = [
            &[],
            &[0x00],
            // Needs an insertion.
            &[0x01, 0x00, 0xd1],
            // Indexed, and by name, in the dynamic table.
            &[0x00, 0x00, 0x80],
            &[0x00, 0x00, 0x40, 0x00],
            // Post-base, both ways.
            &[0x00, 0x00, 0x10],
            &[0x00, 0x00, 0x00, 0x00],
            // Beyond the static table.
            &[0x00, 0x00, 0xff, 0x24],
            // A name and a value that are longer than the section; an integer without an end.
            &[0x00, 0x00, 0x27, 0x01],
            &[0x00, 0x00, 0x51, 0x0b, b'/'],
            &[0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
        ];
        for section in broken {
            assert_eq!(all(section, 1 << 14), Err(SectionFault::Compression), "{section:?}");
        }
    }

    #[test]
    fn a_section_is_counted_with_what_each_field_costs() {
        // `:path /`: 5 + 1 + 32, twice.
        let section = [0x00, 0x00, 0xc1, 0xc1];
        assert!(all(&section, 76).is_ok());
        assert_eq!(all(&section, 75), Err(SectionFault::TooLarge));
    }

    #[test]
    fn every_place_is_the_first_of_its_name() {
        for (index, (name, _)) in static_table::FIELDS.iter().enumerate() {
            let first = static_table::FIELDS.iter().position(|(other, _)| other == name).unwrap();
            if let Some(place) = static_table::place(name) {
                assert_eq!(place, first, "{name} at {index}");
            }
        }
        assert_eq!(static_table::place("x-unknown"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(section: Vec<u8>) {
            let _ = read(Bytes::from(section), 1 << 14, |_, _| Ok(()));
        }
    }
}
