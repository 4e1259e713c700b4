//! Conditions in CEL, as far as the configuration goes: they compile, within bounds. Evaluation is the policy's.

use super::{Problem, Severity, Span, nearest};
use crate::policy::Condition;

/// The longest condition: the parser's time grows faster than its input.
const MAX_BYTES: usize = 4 * 1024;
/// The deepest brackets and longest runs of prefix operators: both the parser and the evaluator recurse.
const MAX_DEPTH: usize = 24;
/// The most operators, selections and brackets: `a+a+a…` nests to the left, and some 1500 of them overflow a stack of 2 MiB
/// when the program is evaluated or merely dropped. A list of any length fits: commas do not count.
const MAX_OPERATORS: usize = 256;

/// Why a condition does not compile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConditionFault {
    /// Line and column within the expression, from 1.
    at: Option<(u32, u32)>,
    /// Quotes the expression.
    why: String,
}

impl ConditionFault {
    /// The problem for the place of the condition; what it quotes is left out when it must not be shown.
    /// `offset` is how many characters of the file stand before the expression's first, where it stands as it is on one line.
    pub(super) fn into_problem(self, mut span: Span, offset: Option<u32>, hidden: bool) -> Problem {
        let mut message = String::from("this condition does not compile");
        match (self.at, offset) {
            (Some((1, column)), Some(offset)) => {
                span.column = span.column.saturating_add(offset).saturating_add(column.saturating_sub(1));
            }
            (Some((line, column)), _) => {
                message.push_str(&format!(" (line {line}, column {column} of the expression)"));
            }
            (None, _) => {}
        }
        if !hidden {
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
    let code = without_texts(source);
    if depth(&code) > MAX_DEPTH {
        return Err(fault(format!("it is nested more than {MAX_DEPTH} levels deep")));
    }
    if operators(&code) > MAX_OPERATORS {
        return Err(fault(format!(
            "it has more than {MAX_OPERATORS} operators; `x in [a, b, …]` is one for any number"
        )));
    }
    let Err(errors) = cel::Program::compile(source) else {
        // It is CEL; whether it speaks of what there is, the policy knows. The zone is checked by itself.
        return Condition::compile(source, "UTC").map(|_| ()).map_err(|why| fault(why.to_string()));
    };
    let Some(first) = errors.errors.first() else { return Err(fault("it is not CEL".into())) };
    let number = |n: isize| u32::try_from(n).ok().filter(|n| *n > 0);
    let at = number(first.pos.0).zip(number(first.pos.1));
    let why = first.msg.lines().next().unwrap_or("it is not CEL");
    let why = why.strip_prefix("Syntax error: ").unwrap_or(why);
    // The parser goes on to list every token that would do.
    let why = why.split_once(" expecting ").map_or(why, |(what, _)| what).replace("'<EOF>'", "end");
    Err(ConditionFault { at, why: nearest::short(&why) })
}

/// The expression without the texts that it quotes. Where it is not certain what is text, it stays in, which only makes
/// the bounds stricter: triple quotes, backslashes, a line that ends within quotes.
fn without_texts(source: &str) -> String {
    if source.contains("\"\"\"") || source.contains("'''") {
        return source.to_owned();
    }
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = split_at_quote(rest) {
        code.push_str(before);
        let quote = after.chars().next().unwrap_or('"');
        let inside = after.get(1..).unwrap_or_default();
        match inside.split_once(quote) {
            Some((text, behind)) if !text.contains(['\\', '\n', '\r']) => {
                code.push_str("\"\"");
                rest = behind;
            }
            // Not to be trusted from here on.
            Some(_) | None => {
                rest = "";
                code.push_str(after);
            }
        }
    }
    code.push_str(rest);
    code
}

fn split_at_quote(text: &str) -> Option<(&str, &str)> {
    text.find(['"', '\'']).map(|at| text.split_at(at))
}

/// How deep an expression nests: brackets that are open, prefix operators in a row, and ternaries.
fn depth(code: &str) -> usize {
    let (mut open, mut run, mut ternaries, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
    for byte in code.bytes() {
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

/// How many operators, selections and brackets an expression has; doubled ones (`&&`, `==`) count once.
fn operators(code: &str) -> usize {
    let mut count = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| *word == "in").count();
    let mut before = b' ';
    for byte in code.bytes() {
        let operator = b".+-*/%<>=!&|?([{".contains(&byte);
        let doubled = matches!((before, byte), (b'&', b'&') | (b'|', b'|') | (b'<' | b'>' | b'=' | b'!', b'='));
        count += usize::from(operator && !doubled);
        before = byte;
    }
    count
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
    }
    #[test]
    fn texts_do_not_count_and_lists_may_be_long() {
        let hosts: Vec<String> = (0..100).map(|n| format!("'https://{n}.a.b.c/((('")).collect();
        assert_eq!(check(&format!("claims.site in [{}]", hosts.join(","))), Ok(()));
        assert_eq!(without_texts("a == 'b.c' && \"d\" == e"), "a == \"\" && \"\" == e");
        // What looks like text to a careless reader is counted.
        let chain = "+a".repeat(1_000);
        for hidden in ["r\"\\\"{}+\"\"", "\"\"\"x\"y\"\"\"{}+\"z\"", "// \" \n a{}+\"x\"", "'\\''{}"] {
            assert!(check(&hidden.replace("{}", &chain)).is_err(), "{hidden}");
        }
    }

    /// Four times the bound still fits on a stack of 2 MiB without optimisation.
    #[test]
    fn the_longest_chains_have_stack_to_spare() {
        for operator in ["+", "||", "&&", "<", ".", "==", " in "] {
            let chain = format!("a{}", format!("{operator}a").repeat(MAX_OPERATORS));
            assert_ne!(check(&chain).map_err(|fault| fault.why.contains("operators")), Err(true), "{operator}");
            assert!(check(&format!("{chain}{operator}a")).is_err(), "{operator}");
            if let Ok(program) =
                cel::Program::compile(&format!("a{}", format!("{operator}a").repeat(MAX_OPERATORS * 4)))
            {
                let mut context = cel::Context::default();
                context.add_variable("a", 1_i64).unwrap();
                let _ = program.execute(&context);
            }
        }
    }
}
