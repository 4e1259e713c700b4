//! Path and host patterns, as the configuration writes them: `/items/{id}`, `/files/*`, `/api/**`, `*.example.com`.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::path::{self, PathFault};

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternFault {
    /// Patterns are absolute.
    #[error("a path starts with `/`")]
    NotAbsolute,
    /// `**` swallows the rest, so nothing can follow it.
    #[error("`**` can only be the last segment")]
    RestNotLast,
    /// `*` and `{x}` stand for whole segments.
    #[error("`{0}` must be a whole segment")]
    PartialWildcard(String),
    /// A parameter without a usable name.
    #[error("`{{{0}}}` is not a parameter: a name of letters, digits and `_` is expected")]
    ParameterName(String),
    /// Two parameters of one name.
    #[error("the parameter `{0}` appears twice")]
    ParameterTwice(String),
    /// The literal parts are no path.
    #[error("not a usable path: {0}")]
    Path(#[from] PathFault),
    /// Not a host name or `*.` and a host name.
    #[error("`{0}` is not a host: a name, or `*.` and a name, without a port")]
    Host(String),
}

/// One segment of a pattern, in the order in which they are preferred.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this, in normal form.
    Literal(Arc<str>),
    /// Any one segment, kept under a name.
    Parameter(Arc<str>),
    /// Any one segment.
    Any,
    /// Any number of segments, none included; always last.
    Rest,
}

/// A path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Arc<str>,
    segments: Box<[Segment]>,
    folded: Box<[Segment]>,
}

impl PathPattern {
    /// Reads a pattern; literals are brought into normal form.
    pub fn parse(text: &str) -> Result<Self, PatternFault> {
        let rest = text.strip_prefix('/').ok_or(PatternFault::NotAbsolute)?;
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let parts: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.iter().copied().enumerate() {
            segments.push(match part {
                "**" if at == last => Segment::Rest,
                "**" => return Err(PatternFault::RestNotLast),
                "*" => Segment::Any,
                _ => match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                    Some(name) => {
                        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                            return Err(PatternFault::ParameterName(name.into()));
                        }
                        if names.contains(&name) {
                            return Err(PatternFault::ParameterTwice(name.into()));
                        }
                        names.push(name);
                        Segment::Parameter(name.into())
                    }
                    None if part.contains(['*', '{', '}']) => return Err(PatternFault::PartialWildcard(part.into())),
                    None => Segment::Literal(path::normal_literal(part, at == last)?.into()),
                },
            });
        }
        let folded = folded(&segments)?;
        Ok(Self { text: text.into(), segments: segments.into(), folded })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments. A trailing slash is a last, empty literal.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Its segments as a lax server takes them: folded literals, no trailing slash.
    pub fn folded_segments(&self) -> &[Segment] {
        &self.folded
    }
}

fn folded(segments: &[Segment]) -> Result<Box<[Segment]>, PathFault> {
    let kept = segments.iter().filter(|segment| !matches!(segment, Segment::Literal(text) if text.is_empty()));
    let fold = |segment: &Segment| match segment {
        Segment::Literal(text) => Ok(Segment::Literal(path::fold_segment(text)?.into())),
        Segment::Parameter(_) | Segment::Any | Segment::Rest => Ok(segment.clone()),
    };
    kept.map(fold).collect()
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A host pattern: exact, or a wildcard for one or more leading labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name or address, lower case, without a port or a final dot.
    Exact(Arc<str>),
    /// Any name that ends in `.` and this.
    Wildcard(Arc<str>),
}

impl HostPattern {
    /// Reads a host pattern.
    pub fn parse(text: &str) -> Result<Self, PatternFault> {
        let fault = || PatternFault::Host(text.into());
        let lower = text.to_ascii_lowercase();
        let (wild, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let bracketed = name.starts_with('[') && name.ends_with(']') && !wild;
        let named = !name.is_empty()
            && name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        if !bracketed && !named {
            return Err(fault());
        }
        if bracketed {
            let inner = name.get(1..name.len().saturating_sub(1)).ok_or_else(fault)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| fault())?;
        }
        Ok(if wild { Self::Wildcard(name.into()) } else { Self::Exact(name.into()) })
    }
}
