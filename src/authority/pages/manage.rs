//! Factors are looked after: listed, renamed, removed; recovery codes are made anew; what is elevated is seen.

use http::StatusCode;

use super::{
    Pages, Visit,
    frame::{self, Frame},
    views::{Activity, Codes, ElevationRow, FactorList, FactorRow, Remove, Rename, Renew, called},
};
use crate::{
    authority::{FactorRecord, Fault, Person},
    config::Enrolment,
    endpoint::{self, Answer, At, Fields},
    policy::{Factor, Reason},
};

impl Pages<'_> {
    /// The list.
    pub(super) async fn factors(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let (caller, now) = (&visit.open.session.caller, visit.call.now);
        let person = self.authority.person(caller, now).await?;
        let factors = person.as_ref().map(|person| person.factors.as_slice()).unwrap_or_default();
        let recovery = match self.config().recovery {
            Some(_) if !factors.is_empty() => Some(self.authority.recovery_codes_left(caller, now).await?),
            Some(_) | None => None,
        };
        let secs = now.unix_secs();
        let rows = factors.iter().map(|factor| FactorRow {
            id: &factor.id,
            label: &factor.label,
            kind: called(factor.kind()).0,
            created: At::secs(factor.created_at),
            used: factor.last_used.map(At::secs),
            waits: factor.may_delete_from.filter(|from| *from > secs).map(At::secs),
            suspect: factor.suspect,
        });
        let good = good(&visit);
        let frame = Frame { good, ..self.frame(Some(&visit.open), "factors") };
        let page = FactorList { frame, factors: rows.collect(), recovery };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// A factor of the caller's; `None`: there is none such.
    async fn own(&self, visit: &Visit<'_>, id: &str) -> Result<Option<(Person, FactorRecord)>, Fault> {
        let person = self.authority.person(&visit.open.session.caller, visit.call.now).await?;
        Ok(person.and_then(|person| person.factor(id).cloned().map(|factor| (person, factor))))
    }

    /// Another name.
    pub(super) async fn rename(&self, visit: Visit<'_>, id: &str) -> Result<Answer, Fault> {
        let now = visit.call.now;
        let Some((_, factor)) = self.own(&visit, id).await? else { return Ok(self.see("/")) };
        let Some(proof) = visit.open.fresh_proof(now) else {
            return Ok(self.see(&format!("/prove?then=/factors/{id}/rename")));
        };
        if !visit.is_sent() {
            let page = Rename { frame: self.frame(Some(&visit.open), "factors"), id, label: &factor.label };
            return Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed));
        }
        let label = visit.fields.text("label");
        self.authority.rename(&visit.open.session.caller, id, label, proof, visit.way(), now).await?;
        Ok(self.see("/?done=renamed"))
    }

    /// Away with it.
    pub(super) async fn remove(&self, visit: Visit<'_>, id: &str) -> Result<Answer, Fault> {
        let now = visit.call.now;
        let Some((person, factor)) = self.own(&visit, id).await? else { return Ok(self.see("/")) };
        let Some(proof) = visit.open.fresh_proof(now) else {
            return Ok(self.see(&format!("/prove?then=/factors/{id}/remove")));
        };
        if !visit.is_sent() {
            let page = Remove {
                frame: self.frame(Some(&visit.open), "factors"),
                id,
                label: &factor.label,
                last: person.factors.len() == 1,
                invited: self.config().enrolment == Enrolment::Invitation,
            };
            return Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed));
        }
        self.authority.remove(&visit.open.session.caller, id, proof, visit.way(), now).await?;
        let Visit { mut open, .. } = visit;
        // A proof by a factor that is gone gives no right any more.
        open.session.proof = open.session.proof.filter(|proof| proof.factor_id != id);
        let open = self.renumber(open, now).await?;
        let mut answer = self.see("/?done=removed");
        frame::set_cookie(&mut answer, &open.cookie(now));
        Ok(answer)
    }

    /// New recovery codes.
    pub(super) async fn recovery_codes(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let now = visit.call.now;
        let Some(proof) = visit.open.fresh_proof(now) else { return Ok(self.see("/prove?then=/recovery-codes")) };
        if !visit.is_sent() {
            let page = Renew { frame: self.frame(Some(&visit.open), "factors") };
            return Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed));
        }
        let codes = self.authority.new_recovery_codes(&visit.open.session.caller, proof, visit.way(), now).await?;
        let page = Codes { frame: self.frame(Some(&visit.open), "factors"), codes: &codes, next: "/" };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// What is elevated.
    pub(super) fn activity(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let session = &visit.open.session;
        let elevations = self.authority.elevated(&session.caller, visit.call.now).into_iter();
        let elevations = elevations.map(|elevation| ElevationRow {
            level: elevation.level,
            factors: elevation.factors.iter().map(|name| name_of(name)).collect::<Vec<_>>().join(", "),
            since: At::secs(elevation.since),
            until: At::secs(elevation.until),
        });
        let page = Activity {
            frame: self.frame(Some(&visit.open), "activity"),
            elevations: elevations.collect(),
            until: At::secs(session.until),
        };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }
}

fn name_of(factor: &str) -> &str {
    Factor::from_name(factor).map_or(factor, |factor| called(factor).0)
}

/// What went well before the browser was sent here: one of few sentences, and not for a link of another site's.
fn good(visit: &Visit<'_>) -> Option<&'static str> {
    if endpoint::is_from_elsewhere(visit.call.headers) {
        return None;
    }
    match Fields::read(visit.call.query.unwrap_or_default().as_bytes()).text("done") {
        "added" => Some("It was added."),
        "renamed" => Some("It was renamed."),
        "removed" => Some("It was removed, and is not taken any more."),
        _ => None,
    }
}
