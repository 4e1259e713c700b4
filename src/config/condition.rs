//! Conditions in CEL, as far as the configuration goes: they compile, within bounds. Evaluation is the policy's.

use super::{Problem, Severity, Span, nearest};

/// The longest condition: the parser's time grows faster than its input.
const MAX_BYTES: usize = 4 * 1024;
/// The deepest brackets and longest chains of prefix operators: both the parser and the evaluator recurse.
const MAX_DEPTH: usize = 24;

/// Why a condition does not compile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConditionFault {
    /// Line and column within the expression, from 1.
    at: Option<(u32, u32)>,
    /// Quotes the expression.
    why: String,
}

impl ConditionFault {
    /// The problem for the place of the condition; what it quotes is left out when it came from the environment.
    pub(super) fn into_problem(self, span: Span, from_env: bool) -> Problem {
        let mut message = String::from("this condition does not compile");
        if let Some((line, column)) = self.at {
            message.push_str(&format!(" (line {line}, column {column} of the expression)"));
        }
        if !from_env {
            message.push_str(": ");
            message.push_str(&self.why);
        }
        Problem { severity: Severity::Error, span, message, help: None }
    }
}

/// Compiles a condition and forgets the result.
pub(super) fn check(source: &str) -> Result<(), ConditionFault> {
    let fault = |why: String| ConditionFault { at: None, why };
    if source.len() > MAX_BYTES {
        return Err(fault(format!("it is longer than {MAX_BYTES} bytes")));
    }
    if depth(source) > MAX_DEPTH {
        return Err(fault(format!("it is nested more than {MAX_DEPTH} levels deep")));
    }
    let Err(errors) = cel::Program::compile(source) else { return Ok(()) };
    let Some(first) = errors.errors.first() else { return Err(fault("it is not CEL".into())) };
    let number = |n: isize| u32::try_from(n).ok().filter(|n| *n > 0);
    let at = number(first.pos.0).zip(number(first.pos.1));
    let why = first.msg.lines().next().unwrap_or("it is not CEL");
    Err(ConditionFault { at, why: nearest::short(why) })
}

/// How deep an expression nests: brackets that are open, prefix operators in a row, and ternaries.
/// Brackets within texts count as well, which only makes the bound stricter.
fn depth(source: &str) -> usize {
    let (mut open, mut run, mut ternaries, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'?' => ternaries += 1,
            _ => {}
        }
        run = match byte {
            b'!' | b'-' => run + 1,
            b' ' | b'\t' | b'\n' | b'\r' => run,
            _ => 0,
        };
        deepest = deepest.max(open + run + ternaries);
    }
    deepest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_expression_compiles_or_says_where_it_does_not() {
        assert_eq!(check(r#"claims.department == "finance" && request.path_params.year >= "2024""#), Ok(()));
        let fault = check("claims.a ==").unwrap_err();
        assert!(fault.at.is_some(), "{fault:?}");
        assert!(check("").is_err() && check("a b").is_err() && check("\"").is_err());
    }

    #[test]
    fn hostile_expressions_are_refused_before_the_parser_recurses() {
        for hostile in ["(", "[", "!", "-", "- ", "{", "a?b:", "a.b(", "!("] {
            assert!(check(&hostile.repeat(1_000)).is_err(), "{hostile}");
        }
        assert!(check(&"a".repeat(MAX_BYTES + 1)).is_err());
        let chain = vec!["a"; 1_000].join("||");
        let _ = check(&chain);
        let _ = check(&vec!["a"; 1_000].join("+"));
        let _ = check(&vec!["a"; 1_000].join("."));
    }
}
