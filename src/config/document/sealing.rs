//! `sealing`: what rows are encrypted with. The key's text is never quoted.

use crate::{
    config::{
        Span,
        decode::{At, Cx, Decode, NonEmpty, section},
        document::secret::{inline, inline_shape},
        shape::Shape,
        text::{EnvName, FilePath},
        yaml::{Node, Value},
    },
    secret::Secret,
};

section! {
    /// What all that is kept is encrypted with (AES-256-GCM), by `authority` and `deletions`: 32 random bytes, as base64, base64url or
    /// hex. `stepgate rekey` seals everything with another key.
    "sealing" Sealing {
        /// The key. Whoever has it and the store's file has what is in there; who loses it loses that.
        key: SealingKeyText,
        /// Keys that sealed before. They open what `stepgate rekey` has not sealed again yet.
        previous: Vec<SealingKeyText> = "[]",
    }
}

section! {
    /// Where a sealing key is: exactly one of these.
    "a sealing key" SealingKeyPlace {
        /// The file that holds it.
        file: Option<At<FilePath>>,
        /// The environment variable that holds it.
        env: Option<At<EnvName>>,
        /// A program and its arguments that print it, for a key in a vault or an HSM: run at the start and at a reload, without a
        /// shell, for 10s at most. Its arguments are shown in problems: no place for a secret.
        command: Option<At<NonEmpty<String>>>,
    }
}

/// A sealing key, or where it is.
#[derive(Debug, Clone)]
pub(in crate::config) enum SealingKeyText {
    /// In a file, in the environment, or printed by a command.
    Place(SealingKeyPlace),
    /// The key itself, by `${NAME}` at best.
    Inline {
        span: Span,
        value: Secret,
        /// Whether some of it came by `${NAME}`.
        from_env: bool,
    },
}

impl Decode for SealingKeyText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            return SealingKeyPlace::decode(node, cx).map(Self::Place);
        }
        inline(node, cx).map(|(span, value, from_env)| Self::Inline { span, value, from_env })
    }

    fn shape() -> Shape {
        Shape::Either(vec![SealingKeyPlace::shape(), inline_shape()])
    }
}
