//! What the tokens of well-known providers look like, from their public documentation: the defaults of an issuer that names
//! one in `preset`. A key that is written out has the last word. docs/credentials/presets.md says where each fact stands.

use super::{AuthTimeFormat, ClaimPath, ClaimRule};

/// A provider whose layout is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Preset {
    /// None: RFC 9068 and OpenID Connect, as they are written.
    #[default]
    Standard,
    /// Keycloak.
    Keycloak,
    /// Auth0.
    Auth0,
    /// Microsoft Entra ID, tokens of version 2.0.
    Entra,
    /// Okta, a custom authorization server.
    Okta,
    /// Amazon Cognito user pools.
    Cognito,
    /// Google: identity tokens, since its access tokens are opaque and for Google alone.
    Google,
}

/// The defaults of an issuer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) types: &'static [&'static str],
    pub(super) type_absent: bool,
    pub(super) required: &'static [&'static str],
    pub(super) audience: &'static str,
    pub(super) subject: &'static str,
    pub(super) scopes: &'static str,
    pub(super) acr: &'static str,
    pub(super) amr: &'static str,
    pub(super) auth_time: &'static str,
    /// `None` is `azp`, else `client_id`.
    pub(super) client: Option<&'static str>,
    pub(super) auth_time_format: AuthTimeFormat,
    expect: &'static [Rule],
    machine: &'static [Rule],
}

type Rule = (&'static str, &'static [&'static str]);

const STANDARD: Defaults = Defaults {
    types: &["at+jwt", "jwt"],
    type_absent: true,
    required: &["iss", "aud", "exp", "sub"],
    audience: "aud",
    subject: "sub",
    scopes: "scope",
    acr: "acr",
    amr: "amr",
    auth_time: "auth_time",
    client: None,
    auth_time_format: AuthTimeFormat::Number,
    expect: &[],
    machine: &[],
};

impl Preset {
    /// Its defaults.
    pub(super) const fn defaults(self) -> Defaults {
        match self {
            Self::Standard => STANDARD,
            // The payload has a `typ` of its own, which alone tells access tokens from identity and refresh tokens.
            Self::Keycloak => Defaults { type_absent: false, expect: &[("typ", &["Bearer", "DPoP"])], ..STANDARD },
            Self::Auth0 => Defaults { type_absent: false, machine: &[("gty", &["client-credentials"])], ..STANDARD },
            // `sub` differs from application to application; `oid` is the person. `acrs` are authentication contexts.
            Self::Entra => Defaults {
                types: &["jwt"],
                type_absent: false,
                subject: "oid",
                scopes: "scp",
                acr: "acrs",
                client: Some("azp"),
                machine: &[("idtyp", &["app"])],
                ..STANDARD
            },
            Self::Okta => Defaults { scopes: "scp", client: Some("cid"), ..STANDARD },
            // Access tokens have no `aud`: the application's id stands in `client_id`, and `token_use` tells them from
            // identity tokens.
            Self::Cognito => Defaults {
                types: &[],
                required: &["iss", "exp", "sub", "client_id"],
                audience: "client_id",
                client: Some("client_id"),
                expect: &[("token_use", &["access"])],
                ..STANDARD
            },
            Self::Google => Defaults { types: &["jwt"], type_absent: false, client: Some("azp"), ..STANDARD },
        }
    }
}

impl Defaults {
    /// What a token's claims must say besides.
    pub(super) fn expect(&self) -> Vec<ClaimRule> {
        rules(self.expect)
    }

    /// What makes a caller a machine.
    pub(super) fn machine(&self) -> Vec<ClaimRule> {
        rules(self.machine)
    }
}

fn rules(rules: &[Rule]) -> Vec<ClaimRule> {
    let rule = |(claim, values): &Rule| ClaimRule {
        claim: ClaimPath::Name((*claim).into()),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    rules.iter().map(rule).collect()
}
