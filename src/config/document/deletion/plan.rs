//! A plan: what it takes over, whose data, with which proof, and what is done.

use std::time::Duration;

use super::{
    RecipientText, SourceText, Step,
    call::{Lookup, Probe},
    value::{Bindings, Proof},
};
use crate::config::{
    ClaimPath, Problem, WhileHeld,
    decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section},
    document::AssuranceText,
    quantity::Leeway,
    shape::{Shape, TextShape},
    text::{FilePath, LimitText, Name, OperationText, Prose, Scope as ScopeText},
    yaml::{Node, Value},
};

section! {
    /// A plan for deletions.
    "a deletion plan" DeletionPlan {
        /// The operations that it takes over: `DELETE /accounts/{id}`. Only their exact form is; what merely could pass for one is
        /// refused. Each is under the deletion guard, too.
        operations: NonEmpty<At<OperationText>>,
        /// Other ways to the same deletion: they are refused.
        covers: Vec<CoveredText> = "[]",
        /// An OpenAPI document (3.0 or 3.1, JSON or YAML) of the API. `check` names each of its operations that looks like a deletion and
        /// that the plan neither takes over nor covers.
        openapi: Option<At<FilePath>>,
        /// Where a request names the data's subject: `path.NAME`, `query.NAME`, `body.NAME` (a member of a JSON object, a field of
        /// a form); or `caller`, for an operation that names nobody. It must equal the caller's own.
        subject: At<SourceText>,
        /// The claim that the subject is in a token; without this key the token's subject.
        owner: Option<At<ClaimPath>>,
        /// Who vouches for the data's subject: a name under `issuers` or `credentials`. Needed where callers may come from several:
        /// the same subject is somebody else with each.
        issuer: Option<At<Name>>,
        /// Scopes of which one entitles to somebody else's deletion. Without them everybody can ask for their own alone.
        others: Vec<At<ScopeText>> = "[]",
        /// Further values of the request, each with the claim of the caller that it must equal, scopes or not. What a step puts into
        /// its request must be bound here, be the subject, or be captured.
        bind: Bindings = "{}",
        /// The proof that it needs, besides those of the guard and of the route.
        assurance: Option<Proof>,
        /// What cancelling needs.
        cancel: Cancel = "{}",
        /// Its quota, by issuer and subject: a rate; or the name of a limit.
        limit: At<LimitText> = "3/10m",
        /// How long it is held, and can be cancelled; `none`: it begins at once.
        grace: Option<At<Grace>>,
        /// What becomes of the subject's tokens while it is held.
        while_held: At<Held> = "block",
        /// Whether a second person must approve it.
        four_eyes: bool = "false",
        /// Who may see, cancel and approve other people's.
        may: May = "{}",
        /// What goes and what stays: told to the caller before, and kept as evidence.
        scope: Scope,
        /// What is asked of upstreams when the deletion is requested, for values that steps and notices need. 404 and 410: there is
        /// nothing to delete.
        lookups: Vec<Lookup> = "[]",
        /// What erases. Each is sent until it is done, at least once, with an `Idempotency-Key`.
        steps: NonEmpty<Step>,
        /// How it is verified that the data is gone.
        verify: Verify = "{}",
        /// How long a step or probe that fails for a while is tried again, before a person is asked.
        give_up_after: At<Duration> = "3d",
        /// Who is told of each change.
        notify: Vec<RecipientText> = "[]",
        /// Whether the gateway's own data of the person goes, too: factors, elevations, account, sessions.
        own_data: bool = "true",
    }
}

section! {
    /// What cancelling a deletion needs.
    "cancelling" Cancel {
        /// The proof; without this key that of `deletion_guard`.
        assurance: Option<AssuranceText>,
    }
}

section! {
    /// Scopes of which one entitles to it, for other people's deletions.
    "rights over deletions" May {
        /// To see them.
        see: Vec<At<ScopeText>> = "[]",
        /// To cancel them.
        cancel: Vec<At<ScopeText>> = "[]",
        /// To approve them, where `four_eyes` asks for it; never one's own request.
        approve: Vec<At<ScopeText>> = "[]",
    }
}

section! {
    /// What goes and what stays.
    "a scope" Scope {
        /// In words.
        summary: At<Prose>,
        /// What goes.
        erased: NonEmpty<At<Prose>>,
        /// What stays.
        kept: Vec<Kept> = "[]",
    }
}

section! {
    /// What stays, and why.
    "what is kept" Kept {
        /// What.
        what: At<Prose>,
        /// Why: the law, say.
        why: At<Prose>,
        /// For how long.
        how_long: At<Prose>,
    }
}

section! {
    /// How it is verified that the data is gone. A probe counts only if it saw the data before the first step.
    "verification" Verify {
        /// The requests that tell.
        probes: Vec<Probe> = "[]",
        /// When, after the last step, in ascending order. The deletion is `erased` after the last look.
        after: At<Vec<At<Leeway>>> = "[0s, 1h, 24h, 30d]",
    }
}

section! {
    /// Another way to the same deletion, and what of it is refused.
    "a covered operation" MatchedCover {
        /// The operation: `METHOD /path`, or `* /path` for any method; matched folded.
        r#match: At<OperationText>,
        /// It is GraphQL over HTTP: refused are requests that reach one of these fields at the root of a mutation, and those whose
        /// text cannot be read.
        mutations: Option<At<NonEmpty<At<FieldName>>>>,
        /// It takes several requests in one (JSON): refused are those of which one is an operation of a plan, or otherwise covered.
        batch: Option<At<bool>>,
    }
}

/// Another way to the same deletion.
#[derive(Debug, Clone)]
pub(in crate::config) struct CoveredText {
    pub(in crate::config) matched: At<OperationText>,
    pub(in crate::config) mutations: Option<At<NonEmpty<At<FieldName>>>>,
    pub(in crate::config) batch: Option<At<bool>>,
}

impl Decode for CoveredText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {
                let MatchedCover { r#match: matched, mutations, batch, .. } = MatchedCover::decode(node, cx)?;
                Some(Self { matched, mutations, batch })
            }
            Value::Scalar(_) | Value::Faulty => {
                Some(Self { matched: At::decode(node, cx)?, mutations: None, batch: None })
            }
            Value::Null | Value::List(_) => {
                let span = cx.span(node.place);
                let problem = Problem::error(&span, "an operation is expected here");
                cx.report(
                    problem.with_help("write `METHOD /path`, or {match: POST /graphql, mutations: [deleteAccount]}"),
                );
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<OperationText as Decode>::shape(), MatchedCover::shape()])
    }
}

/// The name of a GraphQL field (GraphQL §2.1.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct FieldName(pub(in crate::config) String);

impl FromText for FieldName {
    const WHAT: &'static str = "the name of a GraphQL field";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || text.len() > 128 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Refusal::because("it has letters, digits and `_`, no digit first"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        let about = "the name of a field, never an alias: `deleteAccount`";
        Shape::Text(TextShape { name: "GraphQL field", about, pattern: Some("[A-Za-z_][A-Za-z0-9_]*") })
    }
}

/// How long a deletion is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Grace {
    /// It begins at once.
    None,
    /// For so long.
    For(Duration),
}

impl FromText for Grace {
    const WHAT: &'static str = "a time of grace";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text == "none" {
            return Ok(Self::None);
        }
        Duration::from_text(text)
            .map(Self::For)
            .map_err(|refusal| if refusal.help.is_some() { refusal.help("write `30d`, or `none`") } else { refusal })
    }

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Words(vec![("none", "it begins at once")]), <Duration as FromText>::shape()])
    }
}

/// What becomes of the subject's tokens while a deletion is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Held(pub(in crate::config) WhileHeld);

section! {
    /// With which status they are refused.
    "a block" Block {
        /// The status.
        block: BlockStatus,
    }
}

/// The status that blocked tokens get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct BlockStatus(u16);

impl FromText for BlockStatus {
    const WHAT: &'static str = "a status for blocked tokens";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text {
            "403" => Ok(Self(403)),
            "410" => Ok(Self(410)),
            _ => Err(Refusal::advice("there are `403` and `410`")),
        }
    }

    fn shape() -> Shape {
        Shape::Words(vec![("403", "forbidden, for now"), ("410", "gone, as the account will be")])
    }
}

const HELD_HELP: &str = "write `block`, `allow`, or {block: 410}";

impl Decode for Held {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Block::decode(node, cx).map(|section| Self(WhileHeld::Block(section.block.0))),
            Value::Scalar(_) | Value::Null | Value::List(_) | Value::Faulty => {
                <HeldWord as Decode>::decode(node, cx).map(|word| Self(word.0))
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<HeldWord as FromText>::shape(), Block::shape()])
    }
}

/// The same as a word.
struct HeldWord(WhileHeld);

impl FromText for HeldWord {
    const WHAT: &'static str = "what becomes of tokens";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text {
            "block" => Ok(Self(WhileHeld::Block(403))),
            "allow" => Ok(Self(WhileHeld::Allow)),
            _ => Err(Refusal::advice(HELD_HELP)),
        }
    }

    fn shape() -> Shape {
        let block = "they are refused with 403, and told how to cancel; the endpoints of deletions take them";
        Shape::Words(vec![("block", block), ("allow", "they pass")])
    }
}
