//! What a level asks of the authority, and whether the authority can give it.

use crate::{
    config::{
        Span,
        decode::{At, NonEmpty},
        document::{self, Document, FactorText, Level},
        quantity::Count,
        resolve::Context,
        text::AssuranceValue,
    },
    policy::{Factor, FactorRule, Factors},
};

/// What the authority can give, as far as the document tells.
#[derive(Debug, Clone, Default)]
pub(in crate::config::resolve) struct Ways {
    /// Whether there is one, or may be meant to be.
    pub(in crate::config::resolve) on: bool,
    /// The factors that can be shown; `None`: the section could not be read.
    factors: Option<Factors>,
    /// The `acr` values that proofs are worth.
    acr: Vec<String>,
}

impl Ways {
    pub(in crate::config::resolve) fn of(document: &Document) -> Self {
        let Some(written) = &document.authority else {
            return Self { on: document.broken, ..Self::default() };
        };
        let acr = written.acr.0.iter().map(|(value, _)| value.value.0.clone()).collect();
        Self { on: true, factors: (!written.factors.broken).then(|| factors(written)), acr }
    }
}

fn factors(written: &document::Authority) -> Factors {
    let on = &written.factors;
    let known = [
        (Factor::Password, written.accounts.is_some()),
        (Factor::Passkey, on.passkey.is_some()),
        (Factor::Totp, on.totp.is_some()),
        (Factor::Email, on.email.is_some()),
        (Factor::Webhook, on.webhook.is_some()),
        (Factor::Push, on.push.is_some()),
        (Factor::Recovery, on.recovery.is_some()),
    ];
    known.into_iter().filter_map(|(factor, on)| on.then_some(factor)).collect()
}

/// The keys of a rule, where they stand.
type Parts<'a> = (Option<&'a NonEmpty<At<FactorText>>>, Option<&'a At<bool>>, Option<&'a At<Count<1, 2>>>);

/// What a level asks of the authority; the outer `None` was reported.
pub(in crate::config::resolve) fn rule(level: &Level, to: &mut Context<'_>) -> Option<Option<FactorRule>> {
    let written: Parts<'_> = (level.factors.as_ref(), level.phishing_resistant.as_ref(), level.categories.as_ref());
    let rule = parts(written, to)?;
    if rule.is_some() && !to.ways.on {
        let message =
            "factors are shown to the authority, and there is no `authority`: this level could never be reached";
        to.error_with_help(
            &level.span,
            message,
            "add `authority`, or ask for `acr` or `amr` values of your provider's",
        );
        return None;
    }
    if let Some(values) = &level.acr {
        report_worthless(&level.span, &values.0, to);
    }
    Some(rule)
}

/// A rule by its parts: `None` inside where nothing is asked for.
pub(super) fn parts((any_of, resistant, categories): Parts<'_>, to: &mut Context<'_>) -> Option<Option<FactorRule>> {
    let mut set = Factors::NONE;
    for item in any_of.iter().flat_map(|list| &list.0) {
        if set.contains(item.value.0) {
            to.error(&item.span, format!("`{}` is listed twice", item.shown));
        }
        set = set.with(item.value.0);
        report_off(item.value.0, &item.span, to);
    }
    let phishing_resistant = resistant.is_some_and(|at| at.value);
    if let (true, Some(at)) = (phishing_resistant, resistant) {
        report_off(Factor::Passkey, &at.span, to);
    }
    let rule = FactorRule {
        any_of: any_of.map(|_| set),
        phishing_resistant,
        categories: categories.map_or(0, |at| u8::try_from(at.value.0).unwrap_or(u8::MAX)),
    };
    Some((rule != FactorRule::default()).then_some(rule))
}

/// A factor that is off is shown by nobody.
fn report_off(factor: Factor, span: &Span, to: &mut Context<'_>) {
    if to.ways.factors.is_some_and(|on| !on.contains(factor)) {
        let message = format!("the factor `{factor}` is off: nobody could show it");
        let help = match factor {
            Factor::Password => "passwords are those of `mode: accounts`".to_owned(),
            Factor::Passkey | Factor::Totp | Factor::Email | Factor::Webhook | Factor::Push | Factor::Recovery => {
                format!("add `{factor}` to `authority.factors`")
            }
        };
        to.error_with_help(span, message, help);
    }
}

/// A level whose `acr` no proof here is worth is left to the provider: worth a word where there is an authority.
fn report_worthless(span: &Span, wanted: &[AssuranceValue], to: &mut Context<'_>) {
    if to.ways.factors.is_none() || wanted.iter().any(|value| to.ways.acr.contains(&value.0)) || span.line == 0 {
        return;
    }
    let message =
        "no proof by the authority is worth any of this level's `acr`: the provider's tokens alone can reach it";
    let help = "say under `authority.acr` what a proof is worth, as {urn:example:acr:mfa: {}}";
    to.warn(span, message, help);
}
