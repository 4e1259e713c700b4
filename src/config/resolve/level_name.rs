//! What levels are called where elevations and grants name them: by their names in the file, by what they ask for where they are
//! written out, and by both names where the deletion guard and a route ask together.

use std::{fmt::Write, sync::Arc};

use aws_lc_rs::digest;

use crate::policy::{FactorRule, LevelName, Requirement};

/// A level by the name that it has in the file.
pub(super) fn named(requirement: Requirement, name: &Arc<str>) -> Requirement {
    Requirement { level: Some(name.clone()), ..requirement }
}

/// A level that is written out: the same for two that ask for the same, whatever age they take, and over every reload and
/// restart. No name in the file has a colon.
pub(super) fn written_out(requirement: Requirement) -> Requirement {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    for (kind, list) in [("acr", &requirement.acr), ("amr", &requirement.amr)] {
        let mut values: Vec<&str> = list.iter().flatten().map(|value| &**value).collect();
        values.sort_unstable();
        values.dedup();
        add(kind.as_bytes());
        add(&(values.len() as u64).to_be_bytes());
        values.iter().for_each(|value| add(value.as_bytes()));
    }
    if let Some(FactorRule { any_of, phishing_resistant, categories }) = requirement.factors {
        let names = any_of.map(|factors| factors.iter().map(|factor| factor.name()).collect::<Vec<_>>().join(","));
        add(b"factors");
        add(names.as_deref().unwrap_or("any").as_bytes());
        add(&[u8::from(phishing_resistant), categories]);
    }
    let mut name = String::from("inline:");
    for byte in context.finish().as_ref().iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    named(requirement, &name.into())
}

/// The name of two levels that are asked for together: the same whichever comes first, and the one's where both are one.
pub(super) fn both(one: Option<&LevelName>, other: Option<&LevelName>) -> Option<LevelName> {
    match (one, other) {
        (None, None) => None,
        (Some(name), None) | (None, Some(name)) => Some(name.clone()),
        (Some(one), Some(other)) if one == other => Some(one.clone()),
        (Some(one), Some(other)) => {
            let (first, second) = if one <= other { (one, other) } else { (other, one) };
            Some(format!("{first}+{second}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use std::time::Duration;

    use super::*;
    use crate::policy::{Factor, Factors};

    fn values(list: &[&str]) -> Option<Box<[Arc<str>]>> {
        Some(list.iter().map(|value| Arc::from(*value)).collect())
    }

    fn name(requirement: Requirement) -> String {
        written_out(requirement).level.unwrap().to_string()
    }

    #[test]
    fn levels_that_are_written_out_have_one_name_if_they_ask_for_the_same_and_else_another() {
        let rule = |factor| FactorRule { any_of: Some(Factors::NONE.with(factor)), ..FactorRule::default() };
        let all = [
            Requirement::default(),
            Requirement { acr: values(&["a"]), ..Requirement::default() },
            Requirement { acr: values(&["a", "b"]), ..Requirement::default() },
            Requirement { acr: values(&["ab"]), ..Requirement::default() },
            Requirement { amr: values(&["a"]), ..Requirement::default() },
            Requirement { acr: values(&["a"]), amr: values(&["a"]), ..Requirement::default() },
            Requirement { factors: Some(rule(Factor::Totp)), ..Requirement::default() },
            Requirement { factors: Some(rule(Factor::Passkey)), ..Requirement::default() },
            Requirement {
                factors: Some(FactorRule { categories: 2, ..FactorRule::default() }),
                ..Requirement::default()
            },
            Requirement {
                factors: Some(FactorRule { phishing_resistant: true, ..FactorRule::default() }),
                ..Requirement::default()
            },
        ];
        let names: std::collections::BTreeSet<String> = all.iter().cloned().map(name).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| name.len() == 7 + 16 && name.starts_with("inline:")), "{names:?}");
        let aged = Requirement { acr: values(&["b", "a"]), max_age: Some(Duration::from_secs(9)), ..all[0].clone() };
        assert_eq!(name(aged), name(all[2].clone()), "neither age nor order");
    }

    #[test]
    fn two_levels_together_are_called_by_both_names() {
        let (a, b): (LevelName, LevelName) = ("a".into(), "b".into());
        assert_eq!(both(Some(&a), Some(&b)).as_deref(), Some("a+b"));
        assert_eq!(both(Some(&b), Some(&a)).as_deref(), Some("a+b"));
        assert_eq!(both(Some(&a), Some(&a)).as_deref(), Some("a"));
        assert_eq!((both(None, Some(&b)).as_deref(), both(None, None)), (Some("b"), None));
    }
}
