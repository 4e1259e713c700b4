//! `issuers.<name>.introspection`: asking the issuer about its tokens (RFC 7662).

use std::time::Duration;

use super::{SecretText, issuer::ClaimName, listener::Certificate};
use crate::config::{
    SecretMethod, SignedAnswers,
    decode::{At, section, words},
    quantity::{Count, Leeway},
    text::ProviderUrl,
};

section! {
    /// How an issuer is asked about tokens that cannot be read here (RFC 7662).
    "introspection" Introspection {
        /// The introspection endpoint; https, except on loopback. Or `discovery`.
        url: Option<At<ProviderUrl>>,
        /// Takes the endpoint from the issuer's metadata: `introspection_endpoint`.
        discovery: Option<At<bool>>,
        /// The gateway's own client identifier at the issuer.
        client_id: At<String>,
        /// The client's secret. Exactly one of `client_secret`, `private_key` and `certificate` is needed.
        client_secret: Option<SecretText>,
        /// How the secret is sent.
        client_secret_method: Option<At<SecretMethod>>,
        /// The client's private key, PEM (RSA, P-256 or Ed25519), for `private_key_jwt` (RFC 7523 §2.2).
        private_key: Option<SecretText>,
        /// The name of that key at the issuer: the `kid` of what it signs.
        key_id: Option<At<String>>,
        /// The client's certificate, for `tls_client_auth` (RFC 8705 §2).
        certificate: Option<Certificate>,
        /// How long one question may take, from the connection to the end of the answer.
        timeout: Duration = "3s",
        /// How long an active token is believed without asking again, and never past its `exp`: as long may a token
        /// pass that was revoked. `0s` asks for each request.
        cache: At<Leeway> = "60s",
        /// How long a token that is not active is refused without asking again. `0s` asks for each request.
        negative_cache: Leeway = "5s",
        /// Whether answers are asked for as JWTs that the issuer signed (RFC 9701), which needs `keys`.
        signed: At<SignedAnswers> = "off",
        /// How many questions may be under way at once; what comes on top is a 503.
        concurrent: Count<1, 4096> = "64",
        /// The members that the answer for an active token must have, besides `active`. By default `exp`, and the audience
        /// where the issuer's `claims` say that it stands: `[aud, exp]`.
        required: Option<At<Vec<ClaimName>>>,
        /// What this issuer's opaque tokens begin with: it is not asked about others.
        prefix: Option<At<String>>,
    }
}

words! { SecretMethod, "a way to send a secret":
    "client_secret_basic" => Self::Basic, "in the Authorization field (RFC 6749 §2.3.1)";
    "client_secret_post" => Self::Post, "in the form";
}

words! { SignedAnswers, "a choice for signed answers":
    "off" => Self::Off, "JSON is asked for";
    "preferred" => Self::Preferred, "a signed answer is asked for, and plain JSON is believed too";
    "required" => Self::Required, "a signed answer is asked for, and nothing else is believed";
}
