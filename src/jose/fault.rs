//! Why a token is not to be believed. The texts are for the operator's log; a caller is told far less.

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is longer than it may be; nothing of it was decoded.
    #[error("the token is longer than the issuer allows")]
    TooLarge,
    /// It is not a compact JWS of a JSON object, or breaks RFC 7515.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its `alg` is unknown, is `none`, or is not on the allow-list.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The key serves another algorithm than the token's.
    #[error("the key does not serve the token's algorithm")]
    KeyMismatch,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// A claim is missing or has the wrong type.
    #[error("the claim `{0}` is missing or has the wrong type")]
    Claim(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` lies in the future.
    #[error("the token was issued in the future")]
    IssuedInFuture,
}
