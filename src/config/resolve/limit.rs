//! Levels of proof and quotas.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{Context, authority, level_name, machine, table::Table};
use crate::{
    config::{
        Limit, LimitKey, Rate, Span,
        decode::At,
        document::{AssuranceText, Document, Level},
        quantity::{Count, RateText},
        text::LimitText,
    },
    policy::Requirement,
};

/// How many may come at once.
type Burst = Count<1, 1_000_000_000>;

pub(super) fn levels(document: &Document, to: &mut Context<'_>) -> Table<Requirement> {
    Table::new("assurance level", "assurance", &document.assurance, |entry, level| {
        requirement(level, to).map(|requirement| level_name::named(requirement, &entry.name))
    })
}

/// A level by name or written out.
pub(super) fn assurance(
    text: &AssuranceText,
    levels: &Table<Requirement>,
    to: &mut Context<'_>,
) -> Option<Arc<Requirement>> {
    match text {
        AssuranceText::Name(name) => levels.find(name, to),
        AssuranceText::Inline(level) => requirement(level, to).map(level_name::written_out).map(Arc::new),
    }
}

fn requirement(level: &Level, to: &mut Context<'_>) -> Option<Requirement> {
    let values = |list: &crate::config::decode::NonEmpty<crate::config::text::AssuranceValue>| {
        list.0.iter().map(|value| Arc::from(value.0.as_str())).collect::<Box<[Arc<str>]>>()
    };
    let factors = authority::rule(level, to)?;
    if level.acr.is_none() && level.amr.is_none() && level.max_age.is_none() && factors.is_none() {
        if !level.broken {
            let message = match &level.machines {
                Some(_) => {
                    "this level asks nothing of a person, and `machines` only says what would stand in its place"
                }
                None => "this level asks for nothing",
            };
            to.error_with_help(&level.span, message, "give it `acr`, `amr`, `max_age` or `factors`");
        }
        return None;
    }
    Some(Requirement {
        acr: level.acr.as_ref().map(values),
        amr: level.amr.as_ref().map(values),
        max_age: level.max_age,
        factors,
        machines: match &level.machines {
            Some(machines) => Some(machine::proof(machines, to)?),
            None => None,
        },
        ..Requirement::default()
    })
}

pub(super) fn limits(document: &Document, to: &mut Context<'_>) -> Table<Limit> {
    Table::new("limit", "limits", &document.limits, |entry, limit| {
        let rate = rate(&limit.rate, limit.burst.as_ref(), to)?;
        let name = entry.name.clone();
        Some(Limit { span: entry.span.clone(), name, key: limit.key.value.clone(), rate })
    })
}

pub(super) fn rate(rate: &At<RateText>, burst: Option<&At<Burst>>, to: &mut Context<'_>) -> Option<Rate> {
    let plain = plain_rate(rate.value);
    let Some(burst) = burst else { return Some(plain) };
    match plain {
        Rate::PerSecond { count, .. } => {
            let burst = u32::try_from(burst.value.0).ok().and_then(NonZeroU32::new)?;
            Some(Rate::PerSecond { count, burst })
        }
        Rate::PerPeriod { .. } => {
            let message = "a quota for a period longer than a second has no `burst`";
            let help = "no interval of that length admits more than N, and all N may come at once; leave `burst` out";
            to.error_with_help(&burst.span, message, help);
            None
        }
    }
}

pub(super) fn plain_rate(RateText { count, period }: RateText) -> Rate {
    match period == Duration::from_secs(1) {
        true => Rate::PerSecond { count, burst: count },
        false => Rate::PerPeriod { count, period },
    }
}

/// A quota for guarded operations: by name, or a rate by issuer and subject under a name of its own.
pub(super) fn guarded(
    limit: &At<LimitText>,
    name: &str,
    limits: &Table<Limit>,
    to: &mut Context<'_>,
) -> Option<Arc<Limit>> {
    let span: &Span = &limit.span;
    match &limit.value {
        LimitText::Rate(rate) => {
            let rate = plain_rate(*rate);
            Some(Arc::new(Limit { span: span.clone(), name: name.into(), key: LimitKey::Subject, rate }))
        }
        LimitText::Name(name) => {
            let value = crate::config::text::Name(name.clone());
            limits.find(&At { value, span: span.clone(), shown: limit.shown.clone() }, to)
        }
    }
}
