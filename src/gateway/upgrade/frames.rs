//! WebSocket frames (RFC 6455 §5.2) as far as their heads: where one ends, and whether the peer has said good-bye. Nothing is looked
//! into and nothing is judged; that is for the two ends. It is enough to end a stream of our own accord between two frames.

/// Of a head: two bytes, at most eight of length, four of mask.
const HEAD_BYTES: usize = 14;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of a head is there.
    got: usize,
    /// How much of a payload is to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) const fn at_boundary(&self) -> bool {
        self.got == 0 && self.left == 0
    }

    /// Whether a Close frame has begun.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Goes over all of `bytes`.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Goes over `bytes` as far as the end of a frame, if one ends in them; gives how many that were.
    pub(super) fn step(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= taken as u64;
                at += taken;
            } else {
                if let (Some(slot), Some(byte)) = (self.head.get_mut(self.got), rest.first()) {
                    *slot = *byte;
                }
                self.got += 1;
                at += 1;
                if self.got < self.head_bytes() {
                    continue;
                }
                self.left = self.length();
                self.closed |= self.head[0] & 0xF == CLOSE;
                self.got = 0;
            }
            if self.left == 0 {
                return at;
            }
        }
        at
    }

    /// How long the head is, as far as is known of it.
    const fn head_bytes(&self) -> usize {
        if self.got < 2 {
            return 2;
        }
        let mask = if self.head[1] & MASKED != 0 { 4 } else { 0 };
        let length = match self.head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn length(&self) -> u64 {
        let [_, second, rest @ ..] = &self.head;
        match (second & 0x7F, rest) {
            (126, [a, b, ..]) => u64::from(u16::from_be_bytes([*a, *b])),
            (127, [a, b, c, d, e, f, g, h, ..]) => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            (short, _) => u64::from(short),
        }
    }
}

/// A Close frame with a status and a reason (RFC 6455 §5.5.1), masked as a client's must be, or not.
pub(super) fn close(status: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    // A control frame has 125 bytes at most.
    let reason = reason.as_bytes().get(..123).unwrap_or(reason.as_bytes());
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    let mut frame = vec![FINAL | CLOSE, length | if mask.is_some() { MASKED } else { 0 }];
    frame.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    let payload = status.to_be_bytes().into_iter().chain(reason.iter().copied());
    frame.extend(payload.zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let bit = if masked { MASKED } else { 0 };
        let mut frame = vec![FINAL | opcode];
        match length {
            0..126 => frame.push(bit | u8::try_from(length).unwrap()),
            126..65536 => {
                frame.push(bit | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xA5; if masked { length + 4 } else { length }]);
        frame
    }

    #[test]
    fn the_end_of_each_frame_is_known_whatever_its_length_and_mask() {
        for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
            for masked in [false, true] {
                let whole = frame(2, masked, length);
                let mut frames = Frames::default();
                assert_eq!(frames.step(&whole), whole.len(), "{length} {masked}");
                assert!(frames.at_boundary() && !frames.is_closed());
                let mut bytewise = Frames::default();
                for (at, byte) in whole.iter().enumerate() {
                    assert_eq!(bytewise.at_boundary(), at == 0);
                    bytewise.follow(&[*byte]);
                }
                assert!(bytewise.at_boundary());
            }
        }
    }

    #[test]
    fn a_step_ends_where_a_frame_does_although_more_is_there() {
        let (first, second) = (frame(1, false, 5), frame(9, false, 0));
        let both = [first.clone(), second].concat();
        assert_eq!(Frames::default().step(&both), first.len());
    }

    #[test]
    fn a_close_frame_is_seen_and_only_that() {
        let mut frames = Frames::default();
        for opcode in [0, 1, 2, 9, 10] {
            frames.follow(&frame(opcode, true, 8));
            assert!(!frames.is_closed(), "{opcode}");
        }
        frames.follow(&close(1000, "", Some([1, 2, 3, 4])));
        assert!(frames.is_closed() && frames.at_boundary());
    }

    #[test]
    fn our_close_frame_is_one() {
        assert_eq!(close(1008, "no", None), [0x88, 4, 0x03, 0xF0, b'n', b'o']);
        let masked = close(1001, "", Some([0xFF, 0, 0, 0]));
        assert_eq!(masked, [0x88, 0x82, 0xFF, 0, 0, 0, 0x03 ^ 0xFF, 0xE9]);
        assert_eq!(close(1008, &"x".repeat(200), None).len(), 2 + 125);
    }

    proptest! {
        #[test]
        fn what_is_not_websocket_at_all_is_followed_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (one, other) = bytes.split_at(cut.min(bytes.len()));
            let (mut whole, mut parts) = (Frames::default(), Frames::default());
            whole.follow(&bytes);
            parts.follow(one);
            parts.follow(other);
            prop_assert_eq!(whole.at_boundary(), parts.at_boundary());
            prop_assert_eq!(whole.is_closed(), parts.is_closed());
        }
    }
}
