//! What a deletion comes to as evidence: each event as a record of the audit chain, and the whole as a certificate. Neither has a value
//! of the person's: names are the configuration's, targets are templates, and who asked is a kind of party where it was them.

use std::{collections::BTreeMap, sync::Arc};

use super::record::{
    Erasure, Event, HoldKind, Known, Outcome, Party, ProbeState, Seen, Selector, State, StepState, What,
};
use crate::{
    config::{Call, Terms},
    telemetry::audit::{
        Certificate, CertificateKind, CertifiedCall, CertifiedDecision, CertifiedKept, CertifiedLook, CertifiedOwnData,
        CertifiedParty, CertifiedProbe, CertifiedProof, CertifiedRecord, CertifiedScope, CertifiedSight,
        CertifiedSubject, ErasureCall, ErasureParty, ErasureRecord, moment,
    },
};

/// An event as a record. It says the same whenever it is made: told once more after a crash, it is known again.
pub(super) fn entry(known: &Known, event: &Event) -> ErasureRecord {
    let Known { erasure, terms, .. } = known;
    let is_first = matches!(event.what, What::Requested);
    let subject = || {
        let subject = erasure.personal.as_ref()?.subject.as_ref();
        Some((Arc::from(&*erasure.whose.issuer_url), Arc::from(subject)))
    };
    ErasureRecord {
        unix_ms: event.at.saturating_mul(1000),
        id: (&*erasure.id).into(),
        plan: (&*erasure.plan).into(),
        number: event.number,
        event: event.what.name(),
        detail: detail(&event.what),
        call: call(terms, &event.what),
        by: match &event.by {
            Party::Owner => ErasureParty::Owner,
            Party::Caller { issuer_url, subject } => {
                ErasureParty::Caller { issuer_url: (&**issuer_url).into(), subject: (&**subject).into() }
            }
            Party::Operator { name } => ErasureParty::Operator((&**name).into()),
            Party::Link => ErasureParty::Link,
            Party::Gateway => ErasureParty::Gateway,
        },
        subject: is_first.then(subject).flatten(),
        reason: reason(erasure, event),
        request_id: erasure.proof.request_id.as_deref().filter(|_| is_first).map(Arc::from),
    }
}

/// A word more on what happened.
fn detail(what: &What) -> &'static str {
    match what {
        What::Held { kind } | What::Released { kind } => kind.name(),
        What::Seen { there: false, .. } | What::Looked { there: false, .. } => "gone",
        What::Seen { there: true, .. } | What::Looked { there: true, .. } => "there",
        What::StepParked { why, .. } | What::ProbeParked { why, .. } => why.name(),
        What::Requested
        | What::Approved
        | What::Cancelled
        | What::Disputed
        | What::Begun
        | What::StepDone { .. }
        | What::StepAccepted { .. }
        | What::StepRetried { .. }
        | What::OwnDataGone
        | What::AllDone
        | What::ProbeRetried { .. }
        | What::ProbeNotCounted { .. }
        | What::Verified
        | What::Erased => "",
    }
}

/// The step or probe that an event is about: its name, how it was answered, and at which attempt.
fn about(what: &What) -> Option<(&str, Option<u16>, u32)> {
    match what {
        What::Seen { probe, status, .. } | What::Looked { probe, status, .. } => Some((probe, Some(*status), 0)),
        What::StepDone { step, status, attempts } => Some((step, Some(*status), *attempts)),
        What::StepParked { step, status, attempts, .. } => Some((step, *status, *attempts)),
        What::StepAccepted { step } | What::StepRetried { step } => Some((step, None, 0)),
        What::ProbeParked { probe, .. } | What::ProbeRetried { probe } | What::ProbeNotCounted { probe } => {
            Some((probe, None, 0))
        }
        What::Requested
        | What::Approved
        | What::Held { .. }
        | What::Released { .. }
        | What::Cancelled
        | What::Disputed
        | What::Begun
        | What::OwnDataGone
        | What::AllDone
        | What::Verified
        | What::Erased => None,
    }
}

fn call(terms: &Terms, what: &What) -> Option<ErasureCall> {
    let (name, status, attempt) = about(what)?;
    let calls = terms.steps.iter().map(|step| &step.call).chain(terms.probes.iter().map(|probe| &probe.call));
    let call = calls.into_iter().find(|call| &*call.name == name)?;
    Some(ErasureCall {
        name: name.into(),
        upstream: (&*call.upstream).into(),
        method: (&*call.method).into(),
        target: (&*call.target).into(),
        status,
        attempt,
    })
}

/// Why a hold was put on it, as long as it is there.
fn reason(erasure: &Erasure, event: &Event) -> Option<Arc<str>> {
    let What::Held { kind } = event.what else { return None };
    let hold = erasure.holds.iter().find(|hold| hold.kind == kind && hold.at == event.at)?;
    Some(&*hold.reason).filter(|reason| !reason.is_empty()).map(Arc::from)
}

/// What a deletion has come to. Once it has ended and all of it is in the chain, that is the same whenever it is asked for; before, it is
/// a report of that moment.
pub(super) fn certificate(known: &Known, now_secs: u64) -> Certificate {
    let Known { erasure, terms, .. } = known;
    let kind = if erasure.is_settled() { CertificateKind::Certificate } else { CertificateKind::Report };
    let records = recorded(erasure);
    let unrecorded = (erasure.events.len() - records.len()) as u64;
    let terms_hash = erasure.terms.to_string();
    Certificate {
        v: 1,
        kind,
        id: erasure.id.to_string(),
        plan: erasure.plan.to_string(),
        operation: erasure.operation.to_string(),
        state: erasure.state.name().to_owned(),
        result: result(erasure),
        subject: CertifiedSubject {
            issuer_url: erasure.whose.issuer_url.to_string(),
            claim: match &erasure.whose.claim {
                Selector::Subject => "subject".to_owned(),
                Selector::Name(name) | Selector::Pointer(name) => name.to_string(),
            },
            hash: erasure.whose.key.to_string(),
        },
        requested_by: party(&erasure.requester),
        proof: proof(erasure),
        times: times(erasure, now_secs, kind),
        scope: scope(terms),
        terms: terms_hash,
        decisions: erasure.events.iter().filter_map(decision).collect(),
        calls: terms.steps.iter().zip(&erasure.steps).map(|(step, state)| certified_call(&step.call, state)).collect(),
        own_data: erasure.own_data.as_ref().map(|state| {
            let (outcome, at) = outcome(state);
            // Whoever accepted that it stays has not made it go.
            let outcome = if outcome == "accepted" { "not_touched" } else { outcome };
            CertifiedOwnData { outcome: outcome.to_owned(), at }
        }),
        probes: terms
            .probes
            .iter()
            .zip(&erasure.probes)
            .map(|(probe, state)| certified_probe(&probe.call, state))
            .collect(),
        records,
        unrecorded,
        key: String::new(),
    }
}

/// Where the events stand in the chain, as far as it has them from the first on.
fn recorded(erasure: &Erasure) -> Vec<CertifiedRecord> {
    let placed = erasure.events.iter().map_while(|event| Some((event, event.place.as_ref()?)));
    let record = |(event, place): (&Event, &super::record::Place)| CertifiedRecord {
        number: event.number,
        event: event.what.name().to_owned(),
        seq: place.seq,
        hash: place.hash.to_string(),
    };
    placed.map(record).collect()
}

/// The result in a sentence, which claims no more than was seen.
fn result(erasure: &Erasure) -> String {
    let mut result = outcome_of(erasure);
    if erasure.own_data.iter().any(|own| matches!(own.outcome, Outcome::Accepted { .. })) {
        result.push_str(" The gateway's own data of the person was not touched.");
    }
    if erasure.nameless && erasure.state == State::Erased {
        result.push_str(
            " Which subject the person's tokens had was not known: of the audit log, only records of this deletion were struck out.",
        );
    }
    result
}

fn outcome_of(erasure: &Erasure) -> String {
    let counting = erasure.probes.iter().filter(|probe| probe.counts && probe.before.is_some()).count();
    let accepted = erasure.steps.iter().filter(|step| matches!(step.outcome, Outcome::Accepted { .. })).count();
    let steps = match accepted {
        0 => "Every step was done".to_owned(),
        _ => format!("Every step was done, {accepted} of them by a person's word"),
    };
    match erasure.state {
        State::Held { .. } if !erasure.holds.is_empty() => {
            "It is held, and waits for people. Nothing was erased.".to_owned()
        }
        State::Held { .. } => "It is held. Nothing was erased.".to_owned(),
        State::CarryingOut if erasure.is_parked() => "It is being carried out, and waits for a person.".to_owned(),
        State::CarryingOut => "It is being carried out.".to_owned(),
        State::Verifying => format!("{steps}. It is being verified."),
        State::Scrubbing => format!("{steps}. The person is being taken out of what the gateway keeps."),
        State::Erased if counting == 0 => {
            format!("{steps}. Nothing verified it: no probe saw the data before.")
        }
        State::Erased => format!(
            "{steps}. {counting} of {} probes saw the data before, and none of these saw it afterwards.",
            erasure.probes.len()
        ),
        State::Cancelled => "It was cancelled before anything that erases was sent. Nothing was erased.".to_owned(),
    }
}

fn party(party: &Party) -> CertifiedParty {
    let (issuer_url, name) = match party {
        Party::Owner | Party::Link | Party::Gateway => (None, None),
        Party::Caller { issuer_url, subject } => (Some(issuer_url.to_string()), Some(subject.to_string())),
        Party::Operator { name } => (None, Some(name.to_string())),
    };
    CertifiedParty { party: party.kind().to_owned(), issuer_url, name }
}

fn proof(erasure: &Erasure) -> CertifiedProof {
    let shown = &erasure.proof;
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    CertifiedProof {
        acr: text(&shown.acr),
        amr: shown.amr.iter().map(|method| method.to_string()).collect(),
        factors: shown.factors.iter().map(|factor| factor.to_string()).collect(),
        age_secs: shown.age_secs,
        grant: text(&shown.grant),
        request_id: text(&shown.request_id),
    }
}

fn times(erasure: &Erasure, now_secs: u64, kind: CertificateKind) -> BTreeMap<String, String> {
    let held_until = match erasure.state {
        State::Held { until } => Some(until),
        State::CarryingOut | State::Verifying | State::Scrubbing | State::Erased | State::Cancelled => None,
    };
    let issued = match kind {
        CertificateKind::Report => Some(now_secs),
        // It is the same whenever it is made.
        CertificateKind::Certificate => None,
    };
    let times = [
        ("requested", Some(erasure.requested_at)),
        ("held_until", held_until),
        ("begun", erasure.begun_at),
        ("done", erasure.done_at),
        ("gone", erasure.gone_at),
        ("ended", erasure.ended_at),
        ("issued", issued),
    ];
    times.into_iter().filter_map(|(name, at)| Some((name.to_owned(), moment(at?)))).collect()
}

fn scope(terms: &Terms) -> CertifiedScope {
    let kept = |kept: &crate::config::Kept| CertifiedKept {
        what: kept.what.to_string(),
        why: kept.why.to_string(),
        how_long: kept.how_long.to_string(),
    };
    CertifiedScope {
        summary: terms.scope.summary.to_string(),
        erased: terms.scope.erased.iter().map(|what| what.to_string()).collect(),
        kept: terms.scope.kept.iter().map(kept).collect(),
    }
}

/// What somebody decided, or the gateway did in their place.
fn decision(event: &Event) -> Option<CertifiedDecision> {
    let detail = match &event.what {
        What::Approved | What::Cancelled | What::Disputed => None,
        What::Held { kind } | What::Released { kind } => Some(HoldKind::name(*kind).to_owned()),
        What::StepAccepted { step } | What::StepRetried { step } => Some(step.to_string()),
        What::ProbeRetried { probe } | What::ProbeNotCounted { probe } => Some(probe.to_string()),
        What::Requested
        | What::Begun
        | What::Seen { .. }
        | What::StepDone { .. }
        | What::StepParked { .. }
        | What::OwnDataGone
        | What::AllDone
        | What::Looked { .. }
        | What::ProbeParked { .. }
        | What::Verified
        | What::Erased => return None,
    };
    Some(CertifiedDecision { event: event.what.name().to_owned(), detail, by: party(&event.by), at: moment(event.at) })
}

/// The outcome's name, and when it was settled.
fn outcome(state: &StepState) -> (&'static str, Option<String>) {
    match state.outcome {
        Outcome::Waiting => ("waiting", None),
        Outcome::Sent => ("sent", None),
        Outcome::Done { at, .. } => ("done", Some(moment(at))),
        Outcome::Accepted { at } => ("accepted", Some(moment(at))),
        Outcome::Parked { at, .. } => ("parked", Some(moment(at))),
    }
}

fn certified_call(call: &Call, state: &StepState) -> CertifiedCall {
    let (outcome, at) = outcome(state);
    CertifiedCall {
        name: call.name.to_string(),
        upstream: call.upstream.to_string(),
        method: call.method.to_string(),
        target: call.target.to_string(),
        outcome: outcome.to_owned(),
        status: state.status,
        attempts: state.attempts,
        at,
    }
}

fn certified_probe(call: &Call, state: &ProbeState) -> CertifiedProbe {
    let sight = |seen: Seen| CertifiedSight { status: seen.status, there: seen.there, at: moment(seen.at) };
    CertifiedProbe {
        name: call.name.to_string(),
        upstream: call.upstream.to_string(),
        method: call.method.to_string(),
        target: call.target.to_string(),
        counts: state.counts,
        before: state.before.map(sight),
        looks: state
            .looks
            .iter()
            .map(|look| CertifiedLook { due: moment(look.due), seen: look.seen.map(sight) })
            .collect(),
    }
}
