//! A word on each setting that is weaker than the default: chosen, perhaps, and worth knowing.

use std::time::Duration;

use crate::config::{
    ElevationBy, ElevationRule, Enrolment, FirstFactor,
    document::{self, UserVerification},
    resolve::Context,
};

/// The defaults of `guessing` and what is weaker.
const FAILURES: u64 = 5;
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(15 * 60);
const HARD: u64 = 100;
/// The shortest probation in which somebody notices that a factor was added.
const NOTICED: Duration = Duration::from_secs(3_600);

pub(super) fn report(written: &document::Authority, to: &mut Context<'_>) {
    if written.enrolment.value == Enrolment::Open {
        let message =
            "`enrolment: open`: whoever first comes with a token, stolen perhaps, enrols a factor of their own";
        to.warn(
            &written.enrolment.span,
            message,
            "let operators invite: `stepgate invite`; or keep `notices` and `probation`",
        );
    }
    if written.elevation.value == ElevationRule::ByPage {
        let message = "`elevation: by_page`: a thief can send the owner a link whose page elevates the thief's token";
        to.warn(&written.elevation.span, message, "by_code ends in a code that the token's holder presents");
    }
    if written.elevation_by.value == ElevationBy::Session {
        let message =
            "`elevation_by: session`: one proof elevates every token of the provider's session, a stolen one, too";
        to.warn(
            &written.elevation_by.span,
            message,
            "leave it out unless clients change their token more often than they step up",
        );
    }
    if written.first_factor.value == FirstFactor::Unknown {
        let message = "`first_factor: unknown`: a code alone is one factor, so that it never is `mfa`";
        to.warn(
            &written.first_factor.span,
            message,
            "the deletion guard asks for `mfa` by default: only passkeys reach it, or tokens that say `pwd`",
        );
    }
    if let Some(passkey) = &written.factors.passkey
        && passkey.user_verification.value == UserVerification::Preferred
    {
        let message = "`user_verification: preferred`: who holds the device can use it, without a PIN or a fingerprint";
        to.warn(
            &passkey.user_verification.span,
            message,
            "leave it out unless your people's security keys have no PIN",
        );
    }
    if written.probation.value.0 < NOTICED && written.probation.span.line > 0 {
        let message = "a factor that was enrolled after a reset or a recovery can delete before anybody notices";
        to.warn(&written.probation.span, message, "24h is the default; 1h the least that helps");
    }
    if written.notices.email_claim.is_none() && written.notices.webhook.is_none() && !written.notices.broken {
        let message = "nobody is told of changes to their factors";
        to.warn(&written.span, message, "add `notices: {email_claim: email}`, or {webhook: NAME}");
    }
    report_guessing(written, to);
}

fn report_guessing(written: &document::Authority, to: &mut Context<'_>) {
    let guessing = &written.guessing;
    let looser = "guessing is easier than by default";
    if guessing.failures.value.0 > FAILURES {
        to.warn(
            &guessing.failures.span,
            format!("{looser}: more wrong codes until the first lock"),
            "5 is the default",
        );
    }
    if guessing.first.value < FIRST {
        to.warn(&guessing.first.span, format!("{looser}: the first lock is shorter"), "30s is the default");
    }
    if guessing.longest.value < LONGEST {
        to.warn(&guessing.longest.span, format!("{looser}: locks grow less"), "15m is the default");
    }
    if guessing.hard.value.0 > HARD {
        to.warn(
            &guessing.hard.span,
            format!("{looser}: more wrong codes until only passkeys are left"),
            "100 is the default",
        );
    }
    if let Some(totp) = &written.factors.totp
        && totp.skew.value.0 > 1
    {
        let codes = 2 * totp.skew.value.0 + 1;
        to.warn(
            &totp.skew.span,
            format!("{looser}: {codes} codes are right at any moment"),
            "1 is the default, and three codes",
        );
    }
    let (limit, by) = (&written.send_limit, written.send_limit.value);
    // More than 3 in 10 minutes, compared without dividing.
    if u128::from(by.count.get()) * 600 > 3 * u128::from(by.period.as_secs()) {
        to.warn(
            &limit.span,
            "more codes are sent than by default: each is one more that can be guessed",
            "3/10m is the default",
        );
    }
}
