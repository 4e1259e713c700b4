//! `credentials`: sources of callers that are no issuers of tokens.

use super::ApiKeys;
use super::Basic;
use super::ClientCertificates;
use crate::config::decode::section;

section! {
    /// A source of callers other than an issuer of tokens: exactly one of these.
    "a source of credentials" CredentialSource {
        /// API keys, made by `stepgate keys`.
        api_keys: Option<ApiKeys>,
        /// User names and passwords (RFC 7617), only over TLS.
        basic: Option<Basic>,
        /// Client certificates, verified in the TLS handshake.
        client_certificates: Option<ClientCertificates>,
    }
}
