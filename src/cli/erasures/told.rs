//! Deletions as the admin API tells of them: operators see whose they are, for as long as that is kept. Times are RFC 3339.

use serde_json::{Value, json};

use crate::{
    cli::answers::sources,
    config::{Call, Config},
    erasure::{
        Known, Party, State,
        life::OWN_DATA,
        record::{Event, Outcome, ProbeState, Seen, StepState, What},
    },
};

/// A moment.
pub(super) fn moment(secs: u64) -> Value {
    let moment = i64::try_from(secs).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    moment.map_or(Value::Null, |moment| moment.to_string().into())
}

/// What a list says of one.
pub(super) fn line(known: &Known, config: &Config) -> Value {
    let erasure = &known.erasure;
    let issuer = sources(config).find(|(_, url)| **url == *erasure.whose.issuer_url).map(|(name, _)| name);
    json!({
        "id": erasure.id,
        "plan": erasure.plan,
        "state": erasure.state.name(),
        "holds": erasure.holds.iter().map(|hold| hold.kind.name()).collect::<Vec<_>>(),
        "parked": erasure.is_parked(),
        "issuer": issuer.as_deref(),
        "issuer_url": erasure.whose.issuer_url,
        "subject": erasure.personal.as_ref().map(|personal| &personal.subject),
        "requested_at": moment(erasure.requested_at),
        "held_until": held_until(erasure.state),
        "erased_by": erasure.erased_by(&known.terms).map(moment),
        "ended_at": erasure.ended_at.map(moment),
        "can_be_cancelled": erasure.is_untouched(),
    })
}

/// All that is known of one.
pub(super) fn whole(known: &Known, config: &Config) -> Value {
    let (erasure, terms) = (&known.erasure, &known.terms);
    let mut whole = line(known, config);
    let hold = |hold: &crate::erasure::record::Hold| json!({"hold": hold.kind.name(), "at": moment(hold.at), "by": party(&hold.by), "reason": hold.reason});
    let steps = terms.steps.iter().zip(&erasure.steps).map(|(step, state)| self::step(Some(&step.call), state));
    let own = erasure.own_data.iter().map(|state| self::step(None, state));
    let probes = terms.probes.iter().zip(&erasure.probes).map(|(probe, state)| self::probe(&probe.call, state));
    let further = json!({
        "operation": erasure.operation,
        "terms": erasure.terms,
        "scope": terms.scope,
        "requested_by": party(&erasure.requester),
        "proof": erasure.proof,
        "begun_at": erasure.begun_at.map(moment),
        "done_at": erasure.done_at.map(moment),
        "gone_at": erasure.gone_at.map(moment),
        "holds": erasure.holds.iter().map(hold).collect::<Vec<_>>(),
        "steps": steps.chain(own).collect::<Vec<_>>(),
        "probes": probes.collect::<Vec<_>>(),
        "events": erasure.events.iter().map(event).collect::<Vec<_>>(),
    });
    if let (Value::Object(whole), Value::Object(further)) = (&mut whole, further) {
        whole.extend(further);
    }
    whole
}

fn held_until(state: State) -> Option<Value> {
    match state {
        State::Held { until } => Some(moment(until)),
        State::CarryingOut | State::Verifying | State::Scrubbing | State::Erased | State::Cancelled => None,
    }
}

fn party(party: &Party) -> Value {
    let kind = party.kind();
    match party {
        Party::Caller { issuer_url, subject } => json!({"party": kind, "issuer_url": issuer_url, "name": subject}),
        Party::Operator { name } => json!({"party": kind, "name": name}),
        Party::Owner | Party::Link | Party::Gateway => json!({"party": kind}),
    }
}

fn step(call: Option<&Call>, state: &StepState) -> Value {
    let (name, at, why) = match state.outcome {
        Outcome::Waiting => ("waiting", Some(state.next_at).filter(|_| state.attempts > 0), None),
        Outcome::Sent => ("sent", None, None),
        Outcome::Done { at, .. } => ("done", Some(at), None),
        Outcome::Accepted { at } => ("accepted", Some(at), None),
        Outcome::Parked { why, at } => ("parked", Some(at), Some(why.name())),
    };
    json!({
        "name": call.map_or(OWN_DATA, |call| &call.name),
        "upstream": call.map(|call| &call.upstream),
        "method": call.map(|call| &call.method),
        "target": call.map(|call| &call.target),
        "state": name,
        "status": state.status,
        "attempts": state.attempts,
        "at": at.map(moment),
        "why": why,
    })
}

fn probe(call: &Call, state: &ProbeState) -> Value {
    let seen = |seen: &Seen| json!({"status": seen.status, "at": moment(seen.at), "there": seen.there});
    let looks: Vec<Value> =
        state.looks.iter().map(|look| json!({"due": moment(look.due), "seen": look.seen.as_ref().map(seen)})).collect();
    json!({
        "name": call.name,
        "upstream": call.upstream,
        "method": call.method,
        "target": call.target,
        "before": state.before.as_ref().map(seen),
        "counts": state.counts,
        "looks": looks,
        "parked": state.parked.is_some(),
        "why": state.parked.map(|(why, _)| why.name()),
    })
}

fn event(event: &Event) -> Value {
    json!({
        "number": event.number,
        "at": moment(event.at),
        "event": event.what.name(),
        "detail": detail(&event.what),
        "by": party(&event.by),
        "seq": event.place.as_ref().map(|place| place.seq),
    })
}

fn detail(what: &What) -> Option<String> {
    let there = |there: bool| if there { "there" } else { "gone" };
    let answered = |status: Option<u16>| status.map_or("no answer".to_owned(), |status| status.to_string());
    match what {
        What::Held { kind } | What::Released { kind } => Some(kind.name().to_owned()),
        What::Seen { probe, status, there: is_there, counts } => {
            let counts = if *counts { "" } else { ", does not count" };
            Some(format!("{probe}: {status}, {}{counts}", there(*is_there)))
        }
        What::StepDone { step, status, .. } => Some(format!("{step}: {status}")),
        What::StepParked { step, why, status, .. } => Some(format!("{step}: {}, {}", why.name(), answered(*status))),
        What::StepAccepted { step } | What::StepRetried { step } => Some(step.to_string()),
        What::Looked { probe, status, there: is_there, .. } => Some(format!("{probe}: {status}, {}", there(*is_there))),
        What::ProbeParked { probe, why } => Some(format!("{probe}: {}", why.name())),
        What::ProbeRetried { probe } | What::ProbeNotCounted { probe } => Some(probe.to_string()),
        What::Requested
        | What::Approved
        | What::Cancelled
        | What::Disputed
        | What::Begun
        | What::OwnDataGone
        | What::AllDone
        | What::Verified
        | What::Erased => None,
    }
}
