//! A secret value: `{file: path}`, `{env: NAME}`, or the text itself. Its text is never quoted.

use crate::{
    config::{
        SecretEncoding, Span,
        decode::{At, Cx, Decode, section, words},
        shape::{Shape, TextShape},
        text::{EnvName, FilePath},
        yaml::{Node, Value},
    },
    secret::Secret,
};

/// A secret value, or where it is.
#[derive(Debug, Clone)]
pub(in crate::config) enum SecretText {
    /// In a file or in the environment.
    Place(SecretPlace),
    /// The text itself.
    Inline {
        span: Span,
        value: Secret,
        /// Whether some of it came by `${NAME}`.
        from_env: bool,
    },
}

section! {
    /// Where a secret value is: in a file or in an environment variable.
    "a secret" SecretPlace {
        /// The file that holds it.
        file: Option<At<FilePath>>,
        /// The environment variable that holds it.
        env: Option<At<EnvName>>,
    }
}

impl Decode for SecretText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            return SecretPlace::decode(node, cx).map(Self::Place);
        }
        inline(node, cx).map(|(span, value, from_env)| Self::Inline { span, value, from_env })
    }

    fn shape() -> Shape {
        Shape::Either(vec![SecretPlace::shape(), inline_shape()])
    }
}

/// The shared secret of an HMAC issuer: the same, with how its bytes are written.
#[derive(Debug, Clone)]
pub(in crate::config) enum SharedSecret {
    /// In a file or in the environment.
    Place(SharedSecretPlace),
    /// The text itself.
    Inline { span: Span, value: Secret, from_env: bool },
}

section! {
    /// Where a shared secret is, and how its bytes are written there.
    "a shared secret" SharedSecretPlace {
        /// The file that holds it.
        file: Option<At<FilePath>>,
        /// The environment variable that holds it.
        env: Option<At<EnvName>>,
        /// How its bytes are written; `raw` if not said.
        encoding: Option<At<SecretEncoding>>,
    }
}

words! { SecretEncoding, "an encoding":
    "raw" => Self::Raw, "as they are; one final newline is dropped";
    "base64" => Self::Base64, "RFC 4648 §4, padded or not";
    "base64url" => Self::Base64Url, "RFC 4648 §5, padded or not";
    "hex" => Self::Hex, "RFC 4648 §8, in either case";
}

impl Decode for SharedSecret {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            return SharedSecretPlace::decode(node, cx).map(Self::Place);
        }
        inline(node, cx).map(|(span, value, from_env)| Self::Inline { span, value, from_env })
    }

    fn shape() -> Shape {
        Shape::Either(vec![SharedSecretPlace::shape(), inline_shape()])
    }
}

pub(super) fn inline(node: &Node, cx: &mut Cx) -> Option<(Span, Secret, bool)> {
    cx.mask(node.hidden());
    let span = cx.span(node.place);
    let wrong = match &node.value {
        Value::Scalar(scalar) if !scalar.text.is_empty() => {
            return Some((span, Secret::new(scalar.text.as_bytes()), scalar.from_env));
        }
        Value::Faulty => return None,
        Value::Scalar(_) | Value::Null => "this secret is empty",
        Value::List(_) | Value::Map(_) => "a secret is expected here",
    };
    cx.report(crate::config::Problem::error(&span, wrong).with_help("write {file: path} or {env: NAME}"));
    None
}

/// What the form of a text that is a secret is called.
pub(super) const INLINE: &str = "secret";

pub(super) fn inline_shape() -> Shape {
    Shape::Text(TextShape {
        name: INLINE,
        about: "the secret itself, best as `${NAME}` from the environment; written out, it is a warning",
        pattern: None,
    })
}
