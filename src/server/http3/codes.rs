//! How streams and connections end (RFC 9114 §8.1, RFC 9204 §6).

use quinn::VarInt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: VarInt = VarInt::from_u32($value);)*
    };
}

codes! {
    /// In good order.
    NO_ERROR = 0x100;
    /// The program is at fault.
    INTERNAL_ERROR = 0x102;
    /// A stream that there may not be.
    STREAM_CREATION_ERROR = 0x103;
    /// A control stream ended.
    CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame where it may not be.
    FRAME_UNEXPECTED = 0x105;
    /// A frame of the wrong size, or cut off.
    FRAME_ERROR = 0x106;
    /// More work than it is worth.
    EXCESSIVE_LOAD = 0x107;
    /// An identifier that goes the wrong way.
    ID_ERROR = 0x108;
    /// Settings that may not be.
    SETTINGS_ERROR = 0x109;
    /// No settings first.
    MISSING_SETTINGS = 0x10a;
    /// Nothing was done for the request: it may be sent again.
    REQUEST_REJECTED = 0x10b;
    /// The answer is not wanted, or not given, any more.
    REQUEST_CANCELLED = 0x10c;
    /// The request ended before it was one.
    REQUEST_INCOMPLETE = 0x10d;
    /// A malformed request.
    MESSAGE_ERROR = 0x10e;
    /// A field section that cannot be read.
    DECOMPRESSION_FAILED = 0x200;
    /// What came on the encoder's stream.
    ENCODER_STREAM_ERROR = 0x201;
    /// What came on the decoder's stream.
    DECODER_STREAM_ERROR = 0x202;
}
