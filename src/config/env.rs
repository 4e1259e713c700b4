//! `${NAME}` in scalars: filled in from the environment after parsing, so that a value can never change the structure
//! of the document. `$${` is a literal `${`. What was filled in is never shown.

use super::{
    Problem,
    decode::Cx,
    yaml::{Node, Scalar, Value},
};

/// Fills in every scalar of a tree.
pub(super) fn substitute(node: &mut Node, env: &dyn Fn(&str) -> Option<String>, cx: &mut Cx) {
    let place = node.place;
    match &mut node.value {
        Value::Null | Value::Faulty => {}
        Value::Scalar(scalar) => {
            let problems = fill(scalar, env);
            if !problems.is_empty() {
                node.value = Value::Faulty;
            }
            for (message, help) in problems {
                let span = cx.span(place);
                cx.report(Problem::error(&span, message).with_help(help));
            }
        }
        Value::List(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                cx.within_index(at, |cx| substitute(item, env, cx));
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let key = &entry.key;
                let node = &mut entry.node;
                cx.within(key, |cx| substitute(node, env, cx));
            }
        }
    }
}

fn fill(scalar: &mut Scalar, env: &dyn Fn(&str) -> Option<String>) -> Vec<(String, &'static str)> {
    if !scalar.text.contains("${") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut filled = String::with_capacity(scalar.text.len());
    let mut from_env = false;
    let mut rest = scalar.text.as_str();
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let after = after.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
        let Some(name) = name else {
            problems.push((
                "`${` begins the name of an environment variable, and none follows".into(),
                "write ${NAME} with letters, digits and `_`; `$${` is a literal `${`",
            ));
            filled.push_str("${");
            rest = after;
            continue;
        };
        from_env = true;
        match env(name) {
            Some(value) => filled.push_str(&value),
            None => problems.push((
                format!("the environment variable `{}` is not set", super::nearest::short(name)),
                "set it, or write the value here; a secret can also be {file: path}",
            )),
        }
        rest = after.get(name.len().saturating_add(1)..).unwrap_or_default();
    }
    filled.push_str(rest);
    let before = std::mem::replace(&mut scalar.text, filled);
    scalar.from_env = from_env;
    if from_env && scalar.shown.is_none() {
        scalar.shown = Some(before);
    }
    problems
}

/// Whether a name can be an environment variable's (POSIX.1-2017 §8.1).
pub(super) fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> (String, Option<String>, usize) {
        let mut scalar = Scalar { text: text.into(), shown: None, from_env: false, plain: true };
        let env = |name: &str| (name == "A").then(|| "1${B}".to_owned());
        let problems = fill(&mut scalar, &env).len();
        (scalar.text, scalar.shown, problems)
    }

    #[test]
    fn names_are_filled_in_once_and_never_again() {
        assert_eq!(filled("x${A}y"), ("x1${B}y".into(), Some("x${A}y".into()), 0));
        assert_eq!(filled("plain $5"), ("plain $5".into(), None, 0));
    }

    #[test]
    fn a_doubled_dollar_is_a_literal_one() {
        assert_eq!(filled("$${A}"), ("${A}".into(), None, 0));
        assert_eq!(filled("$${A}${A}").0, "${A}1${B}");
    }

    #[test]
    fn unset_and_malformed_names_are_problems() {
        assert_eq!(filled("${B}").2, 1);
        for text in ["${", "${}", "${A:-x}", "${1}", "${A"] {
            assert_eq!(filled(text).2, 1, "{text}");
        }
    }
}
