//! `security_headers`: fields of answers that keep browsers from harm.

use std::time::Duration;

use crate::config::{
    decode::{At, Cx, Decode, section, words},
    document::machine::Switch,
    yaml::{self, Node, Value},
};

section! {
    /// Fields of answers that keep browsers from harm; `true` says all that has a default. What an upstream says itself stays, unless
    /// `override`. They are said in refusals, too.
    "security headers" SecurityHeaders {
        /// `Strict-Transport-Security`, over TLS alone.
        hsts: Switch<Hsts> = "true",
        /// `X-Content-Type-Options: nosniff`.
        nosniff: bool = "true",
        /// `X-Frame-Options`.
        frame: Frame = "deny",
        /// `Referrer-Policy`.
        referrer: Referrer = "strict-origin-when-cross-origin",
        /// `Cross-Origin-Opener-Policy`.
        opener: Opener = "same-origin",
        /// `Cross-Origin-Resource-Policy`: who may embed what is answered. Scripts of other origins are let in by `cors`.
        resource: Resource = "same-origin",
        /// `Cross-Origin-Embedder-Policy`.
        embedder: Embedder = "off",
        /// `Permissions-Policy`, as it is sent.
        permissions: Option<At<String>>,
        /// `Content-Security-Policy`, as it is sent.
        content: Option<At<String>>,
        /// Whether these stand in the place of what an upstream says.
        r#override: bool = "false",
    }
}

section! {
    /// That a browser asks over TLS alone from now on (RFC 6797).
    "HSTS" Hsts {
        /// For how long.
        max_age: Duration = "365d",
        /// Whether for every host below as well.
        subdomains: bool = "false",
        /// Whether browsers may ship with it; needs `subdomains` and a year.
        preload: At<bool> = "false",
    }
}

impl SecurityHeaders {
    /// What `true` stands for.
    pub(in crate::config) fn defaults() -> Option<Self> {
        defaults()
    }
}

impl Hsts {
    /// What `true` stands for.
    pub(in crate::config) fn defaults() -> Option<Self> {
        defaults()
    }
}

fn defaults<T: Decode>() -> Option<T> {
    let node = Node { value: Value::Map(Vec::new()), ..yaml::parse("{}").root? };
    T::decode(&node, &mut Cx::default())
}

/// A field with one of several values, or none.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident, $what:literal: $($word:literal => $doc:literal;)+) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::config) struct $name(pub(in crate::config) Option<&'static str>);

        words! { $name, $what:
            $($word => Self(Some($word)), $doc;)+
            "off" => Self(None), "not said";
        }
    };
}

choice! { /// `X-Frame-Options`.
    Frame, "a choice for frames":
    "deny" => "no page may show it in a frame";
    "sameorigin" => "pages of the same origin may";
}
choice! { /// `Referrer-Policy`.
    Referrer, "a referrer policy":
    "no-referrer" => "none";
    "same-origin" => "to the same origin alone";
    "strict-origin" => "the origin, never to cleartext";
    "strict-origin-when-cross-origin" => "all of it to the same origin, the origin to others, nothing to cleartext";
    "origin" => "the origin";
    "origin-when-cross-origin" => "all of it to the same origin, the origin to others";
    "no-referrer-when-downgrade" => "all of it, but nothing to cleartext";
}
choice! { /// `Cross-Origin-Opener-Policy`.
    Opener, "a choice for openers":
    "same-origin" => "windows of other origins are cut off";
    "same-origin-allow-popups" => "but for those that it opens";
    "unsafe-none" => "none is cut off";
}
choice! { /// `Cross-Origin-Resource-Policy`.
    Resource, "a choice for who may embed":
    "same-origin" => "pages of the same origin";
    "same-site" => "pages of the same site";
    "cross-origin" => "every page";
}
choice! { /// `Cross-Origin-Embedder-Policy`.
    Embedder, "a choice for what may be embedded":
    "require-corp" => "what says that it may";
    "credentialless" => "others, without cookies";
    "unsafe-none" => "everything";
}
