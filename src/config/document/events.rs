//! `issuers.….events`: what an identity provider tells the gateway of sessions and accounts that have ended.

use std::time::Duration;

use super::TypeText;
use crate::config::{
    SignOut,
    decode::{At, NonEmpty, section, words},
    quantity::RateText,
    text::EventPath,
};

section! {
    /// Where the provider reports what ended, and what is done about it: OpenID Connect Back-Channel Logout 1.0 and security
    /// events (RFC 8417) by push (RFC 8935). What they name is revoked.
    "events" Events {
        /// The path on every listener that takes them, by POST: the back-channel logout URI and the push endpoint to register
        /// with the provider. It comes before the routes.
        path: At<EventPath>,
        /// The audiences of which a token's `aud` must hold one: the client ids that are registered with the provider.
        audience: At<NonEmpty<String>>,
        /// The accepted values of `typ`. `JWT` and `absent` are for providers that do not type their log-outs.
        types: NonEmpty<At<TypeText>> = "[logout+jwt, secevent+jwt]",
        /// What ends when one session does. `session` needs access tokens with `sid`: others would go on.
        sign_out: SignOut = "subject",
        /// How long what was revoked stays so: at least the longest life of a token of this issuer.
        keep: Duration = "30d",
        /// How many one address may send; an address that sends more is told to wait.
        rate: At<RateText> = "100/s",
    }
}

words! { SignOut, "what a log-out ends":
    "subject" => Self::Subject, "the session, and every token of its subject that was issued before";
    "session" => Self::Session, "the session alone, where the event names one: tokens without its `sid` stay good";
}
