//! What is told of a deletion, as JSON: to whoever asked for it, to whoever may see it, and beforehand. Names are those of the
//! configuration; nothing in it is the person's.

use serde_json::{Value, json};

use super::{Erasures, Known, Previewed};
use crate::{
    config::{Call, Limit, Rate, Recipient, Scope, WhileHeld},
    erasure::record::{Erasure, Outcome, ProbeState, State, StepState},
};

impl Erasures {
    /// A deletion that was asked for just now, or before.
    pub(super) fn receipt(&self, known: &Known, repeated: bool) -> Value {
        let Known { erasure, terms, .. } = known;
        let status_url = self.status_url(&erasure.id);
        json!({
            "id": erasure.id,
            "state": erasure.state.name(),
            "status_url": status_url,
            "cancel_url": format!("{status_url}/cancel"),
            "scope": scope(&terms.scope),
            "held_until": held_until(erasure),
            "erased_by": erasure.erased_by(terms),
            "repeated": repeated,
        })
    }

    /// A deletion, for whoever may see it.
    pub(super) fn describe(&self, known: &Known) -> Value {
        let Known { erasure, terms, .. } = known;
        let status_url = self.status_url(&erasure.id);
        let steps = terms.steps.iter().zip(&erasure.steps);
        let steps = steps.map(|(step, state)| named(&step.call.name, of_step(state)));
        let probes = terms.probes.iter().zip(&erasure.probes);
        let probes = probes.map(|(probe, state)| named(&probe.call.name, of_probe(state)));
        let ended_at = |state| (erasure.state == state).then_some(erasure.ended_at).flatten();
        json!({
            "id": erasure.id,
            "plan": erasure.plan,
            "operation": erasure.operation,
            "state": erasure.state.name(),
            "holds": erasure.open_holds().map(|hold| hold.kind.name()).collect::<Vec<_>>(),
            "status_url": status_url,
            "cancel_url": erasure.is_untouched().then(|| format!("{status_url}/cancel")),
            "scope": scope(&terms.scope),
            "requested_at": erasure.requested_at,
            "requested_by": erasure.requester.kind(),
            "held_until": held_until(erasure),
            "begun_at": erasure.begun_at,
            "erased_by": erasure.erased_by(terms),
            "cancelled_at": ended_at(State::Cancelled),
            "erased_at": ended_at(State::Erased),
            "steps": steps.collect::<Vec<_>>(),
            "checks": probes.collect::<Vec<_>>(),
        })
    }
}

impl Previewed<'_> {
    pub(super) fn value(&self, erasures: &Erasures) -> Value {
        let Self { preview, plan, operation, own, lacks } = self;
        let terms = &preview.terms;
        let call = |kind: &str, call: &Call| json!({"kind": kind, "name": call.name, "upstream": call.upstream});
        let calls = terms.lookups.iter().map(|lookup| call("lookup", lookup));
        let calls = calls.chain(terms.steps.iter().map(|step| call("step", &step.call)));
        let calls = calls.chain(terms.probes.iter().map(|probe| call("check", &probe.call)));
        json!({
            "plan": &*plan.name,
            "operation": operation,
            "own": own,
            "proof": {"held": lacks.is_empty(), "lacks": lacks},
            "quota": quota(&plan.limit),
            "scope": scope(&terms.scope),
            "held_until": terms.grace_secs.filter(|secs| *secs > 0).map(|_| preview.begins_at),
            "erased_by": preview.erased_by,
            "while_held": match terms.while_held {
                WhileHeld::Block(status) => json!({"block": status}),
                WhileHeld::Allow => json!("allow"),
            },
            "four_eyes": terms.four_eyes,
            "calls": calls.collect::<Vec<_>>(),
            "notified": terms.notify.iter().map(told).collect::<Vec<_>>(),
            "own_data": terms.own_data,
            "open": preview.open.as_ref().map(|known| erasures.status_url(&known.erasure.id)),
            "frozen": preview.frozen,
        })
    }
}

/// How people are told; their addresses are theirs.
fn told(recipient: &Recipient) -> Value {
    match recipient {
        Recipient::Mail(_) => json!("mail"),
        Recipient::Webhook(name) => json!({"webhook": name}),
    }
}

fn quota(limit: &Limit) -> Value {
    let (count, secs) = match limit.rate {
        Rate::PerSecond { count, .. } => (count, 1),
        Rate::PerPeriod { count, period } => (count, period.as_secs()),
    };
    json!({"name": &*limit.name, "requests": count, "seconds": secs})
}

pub(super) fn scope(scope: &Scope) -> Value {
    let kept = scope.kept.iter().map(|kept| json!({"what": kept.what, "why": kept.why, "how_long": kept.how_long}));
    json!({"summary": scope.summary, "erased": scope.erased, "kept": kept.collect::<Vec<_>>()})
}

/// Until when it can be cancelled; `None`: it is held for no time, or not any more.
fn held_until(erasure: &Erasure) -> Option<u64> {
    match erasure.state {
        State::Held { until } => (until > erasure.requested_at).then_some(until),
        State::CarryingOut | State::Verifying | State::Scrubbing | State::Erased | State::Cancelled => None,
    }
}

fn named(name: &str, state: Value) -> Value {
    json!({"name": name, "state": state})
}

fn of_step(state: &StepState) -> Value {
    match state.outcome {
        Outcome::Waiting => json!("waiting"),
        Outcome::Sent => json!("sent"),
        Outcome::Done { .. } | Outcome::Accepted { .. } => json!("done"),
        Outcome::Parked { .. } => json!("waits_for_a_person"),
    }
}

fn of_probe(state: &ProbeState) -> Value {
    if state.parked.is_some() {
        return json!("waits_for_a_person");
    }
    if state.before.is_some() && !state.counts {
        return json!("not_counted");
    }
    let gone = state.looks.iter().filter(|look| look.is_gone()).count();
    match (gone, state.before.is_some()) {
        (0, false) => json!("waiting"),
        (0, true) => json!("seen_before"),
        (_, _) if state.looks.iter().all(|look| look.is_gone()) => json!("gone"),
        (_, _) => json!("gone_so_far"),
    }
}
