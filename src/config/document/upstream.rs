//! `upstreams`: the services behind.

use std::time::Duration;

use http::HeaderName;

use super::{Assertion, BalanceText, Concurrency, Ejection, HealthCheck, Retries, SecretText, TargetText, UpstreamTls};
use crate::config::{
    MethodOverride, ProxyVersion, UpstreamHost, UpstreamProtocol,
    decode::{At, NonEmpty, section, words},
    quantity::Size,
    text::FilePath,
};

section! {
    /// A service behind the gateway.
    "an upstream" Upstream {
        /// Where it answers.
        targets: NonEmpty<TargetText>,
        /// What is spoken with it.
        protocol: At<UpstreamProtocol> = "http1",
        /// Whether each connection to it begins with whom it is made for (HAProxy's PROXY protocol). No connection is used for
        /// two requests then.
        proxy_protocol: Option<ProxyVersion>,
        /// Which of them a request goes to.
        balance: BalanceText = "round_robin",
        /// How long it may take.
        timeouts: Timeouts = "{}",
        /// Whether it is told who calls: `X-Auth-Subject`, `-Issuer`, `-Scopes`, `-Acr`, `-Amr` (by space), `-Time` (whole
        /// seconds).
        identity_headers: bool = "true",
        /// Whether the caller's `Authorization` goes through; the bearer token stops here unless this says otherwise.
        forward_authorization: At<bool> = "false",
        /// A credential of the gateway's own, put in the caller's place.
        credential: Option<Credential>,
        /// A signed token about the caller, which the service can verify; see `assertions`.
        assertion: Option<Assertion>,
        /// Which method overrides the service honours: what they make of a request is judged then, and what the request line says as well.
        method_override: Vec<At<MethodOverride>> = "[]",
        /// The longest body that is read before the decision, where `method_override` has `form` or `json`.
        form_bytes: Size<1, 1_073_741_824> = "1MiB",
        /// What it is told as `Host`.
        host: UpstreamHost = "preserve",
        /// Whether targets are asked if they are well.
        health: Option<HealthCheck>,
        /// When targets are left out for what became of requests.
        ejection: Option<Ejection>,
        /// How long a target that is new or came back takes from a tenth of its share to all of it.
        slow_start: Option<Duration>,
        /// How many requests may be under way at once.
        concurrency: Option<Concurrency>,
        /// When a request is sent again; without this key only what cannot have done anything.
        retries: Option<Retries>,
        /// Certificates (PEM) that vouch for https targets, instead of the machine's.
        ca: Option<At<FilePath>>,
        /// TLS with https targets, besides who vouches for them.
        tls: Option<UpstreamTls>,
    }
}

section! {
    /// How long an upstream may take.
    "timeouts" Timeouts {
        /// Until a connection stands, TLS included.
        connect: Duration = "2s",
        /// Until the head of the answer is there, once the request was sent.
        response: Duration = "30s",
        /// Until the answer is over, waiting and all attempts included; without this key there is no end.
        request: Option<Duration>,
    }
}

section! {
    /// A credential of the gateway's own for an upstream: exactly one of these.
    "credential" Credential {
        /// A user name and password (RFC 7617).
        basic: Option<Basic>,
        /// A header with a secret value.
        header: Option<HeaderCredential>,
    }
}

section! {
    /// A user name and password.
    "basic" Basic {
        /// The user name, without a colon.
        username: At<String>,
        /// The password.
        password: SecretText,
    }
}

section! {
    /// A header with a secret value.
    "header" HeaderCredential {
        /// Its name.
        name: At<HeaderName>,
        /// Its value.
        value: SecretText,
    }
}

words! { MethodOverride, "a way to override a method":
    "header" => Self::Header, "`X-HTTP-Method-Override`, `X-HTTP-Method` or `X-Method-Override`";
    "query" => Self::Query, "`_method` in the query, or ASP.NET's `X-HTTP-Method-Override`";
    "form" => Self::Form, "the same in a form body";
    "json" => Self::Json, "the same in a JSON body";
}

words! { UpstreamHost, "a choice for `Host`":
    "preserve" => Self::Preserve, "what the client said";
    "target" => Self::Target, "the target's own host and port";
}
