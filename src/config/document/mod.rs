//! The document as written: one struct a section, one file a subject. Names are not yet resolved, and nothing is known
//! to fit together; that is `resolve`'s.

mod guard;
mod issuer;
mod limit;
mod listener;
mod route;
mod secret;
mod server;
mod upstream;

pub(super) use guard::DeletionGuard;
pub(super) use issuer::{Issuer, Keys, TypeText};
pub(super) use limit::{AssuranceText, Level, Limit};
pub(super) use listener::{Listener, Tls};
pub(super) use route::{AuthText, Prefix, Rewrite, Route};
pub(super) use secret::{SecretText, SharedSecret};
pub(super) use server::{AccessLogText, AccessLogWord, Admin, Audit, Server, ServerLimits};
pub(super) use upstream::{Credential, Upstream};

use super::decode::{At, Named, NonEmpty, section};

section! {
    /// The whole file. Only `upstreams` and `routes` are needed.
    "gateway.yaml" Document {
        /// The sockets that clients connect to. Without this key: one plain listener that only this machine can reach.
        listeners: At<NonEmpty<Listener>> = "[{address: 127.0.0.1:8080, cleartext: true}]",
        /// The operator's listener: metrics, health and the admin API; never a public one.
        admin: Admin = "{}",
        /// What holds for all listeners.
        server: Server = "{}",
        /// Who may vouch for a caller, by name; a token is matched by its `iss`.
        issuers: Named<Issuer> = "{}",
        /// Named levels of proof.
        assurance: Named<Level> = "{}",
        /// Named quotas. No quota applies that the file does not name.
        limits: Named<Limit> = "{}",
        /// The services behind, by name.
        upstreams: Named<Upstream>,
        /// What protects deletions, on every route.
        deletion_guard: DeletionGuard = "{}",
        /// Where attempts at guarded operations are recorded.
        audit: Audit = "{}",
        /// Where requests are recorded: `stdout`, `off`, or `{file: path}`.
        access_log: AccessLogText = "stdout",
        /// Which requests go where, and what they need. What no route names is a 404. Two routes that could tie are an error.
        routes: NonEmpty<Route>,
    }
}
