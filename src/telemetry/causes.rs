//! A fault as an operator reads it: what it says, and what each of its causes adds.

use std::error::Error;

/// A fault with its causes. A cause that the fault has told already is not repeated.
pub fn with_causes(fault: &dyn Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Fault(&'static str, #[source] Option<Box<Fault>>);

    #[test]
    fn causes_are_told_in_turn_and_once() {
        let fault = |text, cause: Option<Fault>| Fault(text, cause.map(Box::new));
        let deepest = fault("no route to host", None);
        let middle = fault("connecting: no route to host", Some(deepest));
        assert_eq!(with_causes(&fault("no key set", Some(middle))), "no key set: connecting: no route to host");
    }
}
