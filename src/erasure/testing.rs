//! Plans, people and deletions for tests.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Answering, EvidenceFault, EvidenceLog, OwnData,
    life::{self, Changed},
    record::{Erasure, ErasureRequest, Party, Personal, Place, Selector, Shown, Whose, hash_of},
};
use crate::{
    clock::Now,
    config::{
        Call, DeletionBreaker, DeletionPlan, Deletions, Limit, LimitKey, Probe, Rate, Scope, Span, Step, Terms,
        ValueSource, WhileHeld,
    },
    policy::{Assurance, Kind, Marks, Principal},
    store::StoreFault,
    telemetry::audit::{Certificate, ErasureRecord, SignedCertificate, Struck},
};

/// The issuer of everybody here.
pub(crate) const ISSUER: &str = "https://idp.example/";

/// A call of this name.
pub(crate) fn call(name: &str) -> Call {
    Call {
        name: name.into(),
        upstream: "api".into(),
        method: "DELETE".into(),
        target: "/accounts/{subject}".into(),
        headers: Vec::new(),
        body: None,
        capture: std::collections::BTreeMap::new(),
        timeout_secs: 30,
    }
}

/// A step that comes after those at these places.
pub(crate) fn step(name: &str, after: &[usize]) -> Step {
    Step { call: call(name), done: vec![200, 202, 204, 404, 410], after: after.to_vec() }
}

/// A probe.
pub(crate) fn probe(name: &str, optional: bool) -> Probe {
    Probe { call: call(name), there: vec![200], gone: vec![404, 410], optional }
}

/// Terms: a grace in seconds, steps one after the other, one probe, and looks at these times.
pub(crate) fn terms(grace: u64, steps: usize, probes: usize, looks: &[u64]) -> Terms {
    let before = |place: usize| place.checked_sub(1).into_iter().collect::<Vec<_>>();
    Terms {
        plan: "account".into(),
        scope: Scope { summary: "Your account".into(), erased: vec!["Everything".into()], kept: Vec::new() },
        grace_secs: (grace > 0).then_some(grace),
        while_held: WhileHeld::Block(403),
        four_eyes: false,
        may_see: vec!["deletions:see".into()],
        may_cancel: vec!["deletions:cancel".into()],
        may_approve: vec!["deletions:approve".into()],
        lookups: Vec::new(),
        steps: (0..steps).map(|place| step(&format!("step{place}"), &before(place))).collect(),
        probes: (0..probes).map(|place| probe(&format!("probe{place}"), false)).collect(),
        verify_after_secs: looks.to_vec(),
        give_up_secs: 3600,
        notify: Vec::new(),
        own_data: false,
    }
}

/// A plan over these terms: `DELETE /accounts/{id}`, of the caller's own, or of others with `admin:accounts`.
pub(crate) fn plan(terms: Terms) -> DeletionPlan {
    DeletionPlan {
        span: Span::default(),
        name: (&*terms.plan).into(),
        operations: Vec::new(),
        covers: Vec::new(),
        openapi: None,
        subject: ValueSource::Path("id".into()),
        owner: None,
        issuer: None,
        others: vec!["admin:accounts".into()],
        bind: Vec::new(),
        assurance: None,
        cancel_assurance: None,
        limit: Arc::new(Limit {
            span: Span::default(),
            name: "deletions".into(),
            key: LimitKey::Subject,
            rate: Rate::PerPeriod { count: NonZeroU32::new(3).unwrap(), period: Duration::from_secs(600) },
        }),
        terms: Arc::new(terms),
    }
}

/// Deletions with these plans, and a breaker that trips at so many an hour in all and by one.
pub(crate) fn deletions(plans: Vec<DeletionPlan>, (total, by_one): (u32, u32)) -> Deletions {
    let hour = Duration::from_secs(3600);
    Deletions {
        span: Span::default(),
        url: "https://api.example".parse().unwrap(),
        path: "/deletions".into(),
        breaker: DeletionBreaker {
            total: (NonZeroU32::new(total).unwrap(), hour),
            by_principal: (NonZeroU32::new(by_one).unwrap(), hour),
        },
        operators: Vec::new(),
        evidence_for: None,
        limit: plans[0].limit.clone(),
        danger_cleartext: false,
        plans: plans.into_iter().map(Arc::new).collect(),
        requirements: Default::default(),
    }
}

/// Somebody with a token of [`ISSUER`], issued at that time, with further claims.
pub(crate) fn principal(subject: &str, scopes: &[&str], issued_at: f64, claims: Value) -> Principal {
    let mut all = json!({"iss": ISSUER, "sub": subject});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    Principal {
        issuer: "main".into(),
        issuer_url: ISSUER.into(),
        subject: subject.into(),
        client: None,
        scopes: scopes.iter().map(|scope| Arc::from(*scope)).collect(),
        assurance: Assurance::default(),
        expires_at: None,
        leeway_secs: 0.0,
        claims: all,
        kind: Kind::Person,
        marks: Marks { issued_at: Some(issued_at), ..Marks::default() },
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    }
}

/// As if all its events were in the audit chain.
pub(crate) fn place_all(it: &mut Erasure) {
    let place = || Place { seq: 1, hash: "h".into() };
    it.events.iter_mut().for_each(|event| event.place = Some(place()));
}

/// A deletion of somebody by themselves, that was just asked for.
pub(crate) fn erasure(terms: &Terms, is_tripped: bool, at: u64) -> Changed {
    let asked = ErasureRequest {
        id: "0123456789abcdef0123456789abcdef".into(),
        plan: terms.plan.clone(),
        terms: hash_of(terms).unwrap(),
        operation: "DELETE /accounts/{id}".into(),
        whose: Whose { issuer_url: ISSUER.into(), claim: Selector::Subject, key: "00".repeat(32).into(), own: true },
        requester: Party::Owner,
        requester_key: "11".repeat(32).into(),
        requester_issuer: ISSUER.into(),
        proof: Shown::default(),
        personal: Personal {
            subject: "alice".into(),
            values: std::collections::BTreeMap::new(),
            token_subject: Some("alice".into()),
            under: None,
        },
        nameless: false,
        requested_at: at,
    };
    life::begin_with(asked.into(), terms, is_tripped, at)
}

/// Keeps nothing: what is evidence, and what the gateway keeps of people, is other tests' business.
pub(crate) struct Nowhere;

impl EvidenceLog for Nowhere {
    fn record(&self, _: ErasureRecord) -> Answering<'_, Result<Place, EvidenceFault>> {
        Box::pin(async { Ok(Place { seq: 1, hash: "h".into() }) })
    }

    fn certify(&self, _: Certificate) -> Result<SignedCertificate, EvidenceFault> {
        Err(EvidenceFault::Unavailable("it keeps nothing".to_owned()))
    }

    fn strike(&self, _: Vec<Struck>) -> Answering<'_, Result<(), EvidenceFault>> {
        Box::pin(async { Ok(()) })
    }
}

impl OwnData for Nowhere {
    fn forget<'a>(&'a self, _: &'a str, _: &'a str, _: Now) -> Answering<'a, Result<(), StoreFault>> {
        Box::pin(async { Ok(()) })
    }
}
