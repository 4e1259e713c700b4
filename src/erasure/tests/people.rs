//! Over a real store: repeated requests, tombstones, the freeze, the breaker, who may see what, and what a restart leaves of it.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::runtime::Handle;

use super::{
    super::{
        Ask, Core, ErasureMeans, ErasureObserver, Erasures, EvidenceLog, Fault, Filter, HoldKind, Known, May, OwnData,
        Party, Receipt, RequestValues, Role, Shown, Standing, State, Unobserved, Viewer,
        carry::Upstreams,
        life::{Accept, Answer, Command, Item, NotNow},
        none_left,
        record::{Lease, Place, hash_of, hash_of_json},
        testing::{ISSUER, Nowhere, deletions, plan, principal, terms},
    },
    model::Chance,
};
use crate::{
    clock::{Clock, Now},
    config::{ClaimPath, DeletionPlan, Terms, ValueSource},
    notify::{Channels, Outbox, Unobserved as Undelivered},
    policy::Principal,
    store::{Batch, Engine, SealingKeys, Store, StoreFault, Table, testing::Breaker, testing::key},
};

const START: u64 = 1_790_000_000;
const DAY: u64 = 86_400;

/// It is always then.
struct Then;

impl Clock for Then {
    fn now(&self) -> Now {
        at(START)
    }
}

fn at(secs: u64) -> Now {
    // Both clocks go together: this is about no leaps.
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { unix_ms: secs * 1000, instant: *BEGAN + Duration::from_secs(secs) }
}

struct House {
    erasures: Erasures,
    plan: Arc<DeletionPlan>,
    engine: Arc<dyn Engine>,
    breaker: Breaker,
}

/// Deletions over an engine; nobody carries them out.
fn over(engine: &Arc<dyn Engine>, plans: Vec<DeletionPlan>, breaker: (u32, u32)) -> Result<Erasures, StoreFault> {
    over_told(engine, plans, breaker, Arc::new(Unobserved))
}

fn over_told(
    engine: &Arc<dyn Engine>,
    plans: Vec<DeletionPlan>,
    breaker: (u32, u32),
    observer: Arc<dyn ErasureObserver>,
) -> Result<Erasures, StoreFault> {
    let store = Arc::new(crate::store::testing::wait(Store::open(
        engine.clone(),
        SealingKeys::new(key(1), vec![]),
        at(START),
    ))?);
    let clock: Arc<dyn Clock> = Arc::new(Then);
    let outbox = Outbox::new(store.clone(), Channels::default(), clock.clone(), Arc::new(Undelivered));
    let (evidence, own_data): (Arc<dyn EvidenceLog>, Arc<dyn OwnData>) = (Arc::new(Nowhere), Arc::new(Nowhere));
    let means = ErasureMeans {
        handle: &Handle::current(),
        clock: &clock,
        store: &store,
        outbox: &outbox,
        roots: &crate::client::MachineRoots::nobody(),
        observer: &observer,
        evidence: &evidence,
        own_data: &own_data,
    };
    let core = Core::open(&means, None)?;
    let config = Arc::new(deletions(plans, breaker));
    core.ledger.kept.config.store(Some(config.clone()));
    let selectors = config.plans.iter().map(|plan| super::super::Selector::of(plan.owner.as_ref()));
    core.ledger.kept.standings.know(selectors);
    let issuers = [("main".into(), ISSUER.into())].into_iter().collect();
    Ok(Erasures { config, issuers, upstreams: Arc::new(Upstreams::default()), core })
}

impl House {
    fn new(terms: Terms) -> Self {
        Self::with(vec![plan(terms)], (1000, 1000))
    }

    fn with(plans: Vec<DeletionPlan>, limits: (u32, u32)) -> Self {
        let (store, breaker) = Store::breakable_for_tests();
        let (engine, _) = store.parts_for_tests();
        let erasures = over(&engine, plans, limits).unwrap();
        let plan = erasures.config.plans[0].clone();
        Self { erasures, plan, engine, breaker }
    }

    /// The same after a restart, with these plans.
    fn again(&mut self, plans: Vec<DeletionPlan>, limits: (u32, u32)) {
        self.erasures = over(&self.engine, plans, limits).unwrap();
        self.plan = self.erasures.config.plans[0].clone();
    }

    async fn ask(&self, who: &Principal, id: &str, now: u64) -> Result<Receipt, Fault> {
        let path = [("id", Cow::Borrowed(id))];
        let values = RequestValues { path: &path, ..RequestValues::default() };
        let target = self.erasures.target(&self.plan, who, &values).unwrap();
        let proof = Shown::default();
        let operation = "DELETE /accounts/{id}";
        self.erasures.request(Ask { plan: &self.plan, operation, target, principal: who, proof, now: at(now) }).await
    }

    async fn does(&self, id: &str, command: Command, now: u64) -> Known {
        self.erasures.core.ledger.change(id, command, at(now)).await.unwrap()
    }

    /// Carries out what has no grace, one step and no probe.
    async fn carry_out(&self, id: &str, now: u64) {
        self.does(id, Command::TakeLease(Lease { holder: 1, until: now + 60 }), now).await;
        self.does(id, Command::Begin(1), now).await;
        self.does(id, Command::Send(1, 0), now).await;
        self.does(id, Command::Answered(1, 0, Answer::Status(204, 0)), now).await;
        self.place(id, now).await;
        let events = self.erasures.core.ledger.get(id, at(now)).await.unwrap().unwrap().erasure.events.len();
        self.does(id, Command::Scrubbed(1, events), now).await;
        self.place(id, now).await;
    }

    async fn place(&self, id: &str, now: u64) {
        let known = self.erasures.core.ledger.get(id, at(now)).await.unwrap().unwrap();
        let place = |number| (number, Place { seq: 1, hash: "h".into() });
        let places = known.erasure.unplaced().map(|event| place(event.number)).collect();
        self.does(id, Command::Placed(places), now).await;
    }

    fn standing(&self, who: &Principal) -> Standing {
        self.erasures.standing(who)
    }
}

fn alice(issued_at: u64) -> Principal {
    principal("alice", &[], issued_at as f64, json!({}))
}

fn admin() -> Principal {
    principal("root", &["admin:accounts", "deletions:see"], START as f64, json!({}))
}

fn operator() -> Party {
    Party::Operator { name: "olga".into() }
}

#[tokio::test]
async fn a_request_that_is_repeated_or_comes_many_times_at_once_makes_one_deletion() {
    let house = Arc::new(House::new(terms(DAY, 1, 0, &[0])));
    let asking = (0..40).map(|number| {
        let house = house.clone();
        let who = if number % 2 == 0 { alice(START) } else { admin() };
        tokio::spawn(async move { house.ask(&who, "alice", START).await.unwrap() })
    });
    let mut receipts = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        receipts.push(asked.await.unwrap());
    }
    assert_eq!(receipts.iter().filter(|receipt| !receipt.repeated).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.known.erasure.id == receipts[0].known.erasure.id));
    let later = house.ask(&alice(START), "alice", START + 1000).await.unwrap();
    assert!(later.repeated && later.known.erasure.requested_at == START);
    assert!(!house.ask(&admin(), "bob", START).await.unwrap().known.erasure.whose.own);
}

#[tokio::test]
async fn a_request_about_another_tenants_data_is_not_taken_for_a_repetition() {
    let by_tenant = DeletionPlan {
        bind: vec![(ValueSource::Path("tenant".into()), ClaimPath::Name("tenant".into()))],
        ..plan(terms(DAY, 1, 0, &[0]))
    };
    let house = House::with(vec![by_tenant], (1000, 1000));
    let ask = async |tenant: &str| {
        let who = principal("alice", &[], START as f64, json!({"tenant": tenant}));
        let path = [("tenant", Cow::Borrowed(tenant)), ("id", Cow::Borrowed("alice"))];
        let values = RequestValues { path: &path, ..RequestValues::default() };
        let target = || house.erasures.target(&house.plan, &who, &values).unwrap();
        let preview = house.erasures.preview(&house.plan, &target(), at(START)).await;
        let operation = "DELETE /{tenant}/{id}";
        let proof = Shown::default();
        let ask = Ask { plan: &house.plan, operation, target: target(), principal: &who, proof, now: at(START) };
        (preview, house.erasures.request(ask).await)
    };
    let (_, first) = ask("one").await;
    assert!(!first.unwrap().repeated);
    let (preview, other) = ask("two").await;
    assert!(matches!((preview, other), (Err(Fault::AnotherOpen), Err(Fault::AnotherOpen))));
    let (preview, again) = ask("one").await;
    assert!(preview.unwrap().open.is_some() && again.unwrap().repeated);
}

#[tokio::test]
async fn tokens_are_blocked_while_held_refused_while_erased_and_afterwards_if_they_are_older() {
    let mut house = House::new(terms(100, 1, 1, &[0, DAY]));
    let before = alice(START);
    assert_eq!(house.standing(&before), Standing::Good);
    let id = house.ask(&before, "alice", START).await.unwrap().known.erasure.id;
    let held = Standing::Held { status: 403, id: u128::from_str_radix(&id, 16).unwrap() };
    assert_eq!(house.standing(&before), held);
    // Another's is not, nor who has the name with another issuer.
    assert_eq!(house.standing(&admin()), Standing::Good);
    let elsewhere = Principal { issuer_url: "https://other.example/".into(), ..alice(START) };
    assert_eq!(house.standing(&elsewhere), Standing::Good);
    let now = START + 100;
    house.does(&id, Command::TakeLease(Lease { holder: 1, until: now + 60 }), now).await;
    house.does(&id, Command::Begin(1), now).await;
    let fresh = alice(now + 1000);
    let held = Standing::Held { status: 403, id: u128::from_str_radix(&id, 16).unwrap() };
    assert_eq!((house.standing(&before), house.standing(&fresh)), (held, held), "it can still be cancelled");
    house.does(&id, Command::Probed(1, 0, Answer::Status(200, 0)), now).await;
    house.does(&id, Command::Send(1, 0), now).await;
    assert_eq!((house.standing(&before), house.standing(&fresh)), (Standing::Erased, Standing::Erased));
    house.again(vec![plan(terms(100, 1, 1, &[0, DAY]))], (100, 100));
    assert_eq!(house.standing(&fresh), Standing::Erased, "also after a restart");
    house.does(&id, Command::Answered(1, 0, Answer::Status(204, 0)), now).await;
    assert_eq!(house.standing(&fresh), Standing::Erased, "nobody has seen that it is gone");
    house.does(&id, Command::Probed(1, 0, Answer::Status(404, 0)), now + 10).await;
    for (issued_at, expected) in [(now, Standing::Erased), (now + 10, Standing::Erased), (now + 11, Standing::Good)] {
        assert_eq!(house.standing(&alice(issued_at)), expected, "{issued_at}");
    }
    let lenient = Principal { leeway_secs: 30.0, ..alice(now + 35) };
    assert_eq!(house.standing(&lenient), Standing::Erased, "its clock may be ahead");
    let mut silent = alice(now + 1000);
    for issued_at in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        silent.marks.issued_at = issued_at;
        assert_eq!(house.standing(&silent), Standing::Erased, "{issued_at:?}");
    }
}

#[tokio::test]
async fn a_tombstone_outlives_its_plan_and_its_claim_and_an_operator_lifts_it() {
    let mut by_claim = plan(terms(0, 1, 0, &[0]));
    by_claim.owner = Some(ClaimPath::Pointer("/org/uid".into()));
    let mut house = House::with(vec![by_claim], (100, 100));
    let who = principal("alice", &[], START as f64, json!({"org": {"uid": 42}}));
    let id = house.ask(&who, "42", START).await.unwrap().known.erasure.id;
    house.carry_out(&id, START + 5).await;
    let mut other = terms(0, 1, 0, &[0]);
    other.plan = "other".into();
    house.again(vec![plan(other)], (100, 100));
    assert_eq!(house.standing(&who), Standing::Erased);
    assert_eq!(house.standing(&alice(START)), Standing::Good, "the claim, and not the token's subject, was theirs");
    // Used again later, the name is nobody's to be refused.
    let newer = principal("x", &[], (START + 6) as f64, json!({"org": {"uid": 42}}));
    assert_eq!(house.standing(&newer), Standing::Good);
    assert!(!house.erasures.readmit("main", "43", at(START + 7)).await.unwrap());
    assert!(house.erasures.readmit("main", "42", at(START + 7)).await.unwrap());
    assert_eq!(house.standing(&who), Standing::Good);
}

#[tokio::test]
async fn a_deletion_keeps_the_terms_that_it_was_made_under() {
    let mut house = House::new(terms(DAY, 2, 0, &[0]));
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    let mut changed = terms(7 * DAY, 1, 1, &[0, DAY]);
    changed.scope.summary = "Something else".into();
    house.again(vec![plan(changed)], (100, 100));
    let known = house.erasures.core.ledger.get(&id, at(START)).await.unwrap().unwrap();
    assert_eq!((*known.terms).clone(), terms(DAY, 2, 0, &[0]));
    assert_eq!(known.erasure.state, State::Held { until: START + DAY });
}

#[tokio::test]
async fn not_me_cancels_freezes_and_an_operator_lifts_it() {
    let mut house = House::new(terms(DAY, 1, 0, &[0]));
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    let token = house.erasures.link_token(&id);
    let wrong = [token.to_uppercase(), token[1..].to_owned(), String::new(), house.erasures.link_token("00")];
    for wrong in wrong {
        assert_eq!(house.erasures.dispute(&id, &wrong, at(START)).await.unwrap_err(), Fault::NotFound);
        assert_eq!(house.erasures.by_link(&id, &wrong, at(START)).await.unwrap_err(), Fault::NotFound);
    }
    house.erasures.dispute(&id, &token, at(START)).await.unwrap();
    assert_eq!(house.erasures.by_link(&id, &token, at(START)).await.unwrap().erasure.state, State::Cancelled);
    assert_eq!(house.standing(&alice(START)), Standing::Good);
    for who in [alice(START), admin()] {
        assert_eq!(house.ask(&who, "alice", START + 1).await.unwrap_err(), Fault::Frozen);
    }
    house.again(vec![plan(terms(DAY, 1, 0, &[0]))], (100, 100));
    assert_eq!(house.ask(&admin(), "alice", START + 1).await.unwrap_err(), Fault::Frozen);
    assert_eq!(house.erasures.counts(START).frozen, 1);
    assert!(house.erasures.unfreeze(ISSUER, "alice", at(START + 2)).await.unwrap());
    assert!(!house.ask(&alice(START), "alice", START + 3).await.unwrap().repeated);
    assert_eq!(house.erasures.counts(START).frozen, 0);
}

#[tokio::test]
async fn the_breaker_holds_every_further_deletion_until_an_operator_resets_it() {
    let mut house = House::with(vec![plan(terms(0, 1, 0, &[0]))], (5, 1000));
    let is_held = |receipt: &Receipt| receipt.known.erasure.is_held_by(HoldKind::Breaker);
    for number in 0..5 {
        let who = principal(&format!("p{number}"), &[], 0.0, json!({}));
        assert!(!is_held(&house.ask(&who, &format!("p{number}"), START + number).await.unwrap()), "{number}");
    }
    // Asked for once more it does not count.
    house.ask(&principal("p1", &[], 0.0, json!({})), "p1", START + 6).await.unwrap();
    house.again(vec![plan(terms(0, 1, 0, &[0]))], (5, 1000));
    assert_eq!(house.erasures.breaker(), []);
    let bob = principal("bob", &[], 0.0, json!({}));
    let held = house.ask(&bob, "bob", START + 10).await.unwrap();
    assert!(is_held(&held), "also after a restart");
    assert_eq!(house.standing(&bob), Standing::Good, "whom nobody wanted to delete is not kept out");
    assert_eq!(house.erasures.breaker().len(), 1);
    house.again(vec![plan(terms(0, 1, 0, &[0]))], (5, 1000));
    // An hour later it is still tripped.
    let carol = principal("carol", &[], 0.0, json!({}));
    assert!(is_held(&house.ask(&carol, "carol", START + 2 * 3600).await.unwrap()));
    assert!(house.erasures.reset_breaker(at(START + 2 * 3600)).await.unwrap());
    house.again(vec![plan(terms(0, 1, 0, &[0]))], (5, 1000));
    let dave = principal("dave", &[], 0.0, json!({}));
    assert!(!is_held(&house.ask(&dave, "dave", START + 2 * 3600 + 1).await.unwrap()));
    let id = held.known.erasure.id;
    let page =
        house.erasures.list(&Filter { hold: Some(HoldKind::Breaker), limit: 10, ..Filter::default() }, at(START)).await;
    assert_eq!(page.unwrap().items.len(), 2, "those that are held stay so");
    house.erasures.release(&id, HoldKind::Breaker, operator(), at(START + 2 * 3600)).await.unwrap();
    assert_eq!(house.standing(&bob), Standing::Held { status: 403, id: u128::from_str_radix(&id, 16).unwrap() });
}

#[tokio::test]
async fn whoever_alone_asks_for_too_many_is_held_and_nobody_else() {
    let house = House::with(vec![plan(terms(0, 1, 0, &[0]))], (1000, 3));
    let is_held = |receipt: Receipt| receipt.known.erasure.is_held_by(HoldKind::Breaker);
    for number in 0..6 {
        let receipt = house.ask(&admin(), &format!("p{number}"), START).await.unwrap();
        assert_eq!(is_held(receipt), number >= 3, "{number}");
    }
    assert!(!is_held(house.ask(&alice(START), "alice", START).await.unwrap()));
    assert_eq!(house.erasures.breaker().len(), 1);
    assert!(house.erasures.breaker()[0].by.is_some());
}

#[tokio::test]
async fn many_at_once_do_not_slip_past_the_breaker() {
    let house = Arc::new(House::with(vec![plan(terms(DAY, 1, 0, &[0]))], (10, 1000)));
    let asking = (0..40).map(|number| {
        let (house, id) = (house.clone(), format!("p{number}"));
        tokio::spawn(async move { house.ask(&principal(&id, &[], 0.0, json!({})), &id, START).await.unwrap() })
    });
    let mut held = 0;
    for asked in asking.collect::<Vec<_>>() {
        held += usize::from(asked.await.unwrap().known.erasure.is_held_by(HoldKind::Breaker));
    }
    assert_eq!(held, 30);
}

#[tokio::test]
async fn a_deletion_is_seen_by_its_person_whoever_asked_and_whom_a_scope_entitles_and_is_not_there_for_others() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let id = house.ask(&principal("root", &["admin:accounts"], 0.0, json!({})), "alice", START).await.unwrap();
    let id = id.known.erasure.id;
    let role = async |who: &Principal, may: May| {
        house.erasures.for_caller(&id, Viewer::Caller(who), may, at(START)).await.map(|view| view.role)
    };
    let someone = |subject: &str, scopes: &[&str]| principal(subject, scopes, START as f64, json!({}));
    assert_eq!(role(&someone("alice", &[]), May::See).await, Ok(Role::Owner));
    assert_eq!(role(&someone("root", &[]), May::See).await, Ok(Role::Requester));
    assert_eq!(role(&someone("sue", &["deletions:see"]), May::See).await, Ok(Role::Entitled));
    assert_eq!(role(&someone("sue", &["deletions:cancel"]), May::Cancel).await, Ok(Role::Entitled));
    for (who, may) in [
        (someone("sue", &[]), May::See),
        (someone("sue", &["deletions:see"]), May::Cancel),
        (someone("sue", &["deletions:cancel", "admin:accounts"]), May::Approve),
        (someone("", &[]), May::See),
        (Principal { issuer_url: "https://other.example/".into(), ..someone("alice", &["deletions:see"]) }, May::See),
    ] {
        assert_eq!(role(&who, may).await, Err(Fault::NotFound), "{may:?}");
    }
    for no in ["", "x", "../open", &id.to_uppercase(), &id[1..], "00000000000000000000000000000000"] {
        let asked = house.erasures.shown(no, Viewer::Operator("olga"), at(START)).await;
        assert_eq!(asked.unwrap_err(), Fault::NotFound, "{no}");
    }
    assert_eq!(house.erasures.of_caller(&alice(START), at(START)).await.unwrap().len(), 1);
    assert_eq!(house.erasures.of_caller(&someone("sue", &["deletions:see"]), at(START)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_has_ended_is_found_by_number_person_and_page_and_names_nobody() {
    let house = House::new(terms(0, 1, 0, &[0]));
    let mut ids = Vec::new();
    for number in 0..7 {
        let who = format!("person-{number}");
        let id = house.ask(&principal(&who, &[], 0.0, json!({})), &who, START).await.unwrap().known.erasure.id;
        match number % 3 {
            0 => house.carry_out(&id, START + 10).await,
            1 => {
                house.erasures.cancel(&id, Party::Owner, at(START + 1)).await.unwrap();
                house.place(&id, START + 2).await;
            }
            _ => {}
        }
        ids.push(id);
    }
    let list = async |filter: Filter<'_>| {
        let (mut found, mut after) = (Vec::new(), None::<Box<str>>);
        loop {
            let filter = Filter { limit: 2, after: after.as_deref(), ..filter };
            let page = house.erasures.list(&filter, at(START)).await.unwrap();
            assert!(page.items.len() <= 2);
            found.extend(page.items.into_iter().map(|known| known.erasure.id));
            match page.next {
                Some(next) => after = Some(next),
                None => return found,
            }
        }
    };
    let mut all = list(Filter::default()).await;
    all.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(all, expected);
    for (state, count) in [("erased", 3), ("cancelled", 2), ("held", 2), ("verifying", 0)] {
        assert_eq!(list(Filter { state: Some(state), ..Filter::default() }).await.len(), count, "{state}");
    }
    let of = |name: &'static str| Filter { subject: Some(("main", name)), ..Filter::default() };
    assert_eq!(list(of("person-3")).await, [ids[3].clone()]);
    assert_eq!(list(of("nobody")).await, Vec::<Box<str>>::new());
    assert_eq!(house.erasures.counts(START).states.values().sum::<u64>(), 2, "what has ended costs no memory");
    for id in [&ids[0], &ids[1]] {
        let known = house.erasures.shown(id, Viewer::Operator("olga"), at(START)).await.unwrap().known;
        let text = serde_json::to_string(&known.erasure).unwrap();
        assert!(known.erasure.is_settled() && !text.contains("person-"), "{text}");
    }
    // Cancelled once more, it is so; erased, it is too late.
    assert!(house.erasures.cancel(&ids[1], Party::Owner, at(START)).await.is_ok());
    let late = house.erasures.cancel(&ids[0], Party::Owner, at(START)).await;
    assert_eq!(late.unwrap_err(), Fault::NotNow(NotNow::TooLate));
}

#[tokio::test]
async fn a_store_that_is_broken_makes_no_deletion_and_says_so() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    house.breaker.break_it();
    assert!(matches!(house.ask(&alice(START), "alice", START).await, Err(Fault::Store(StoreFault::Unavailable(_)))));
    assert!(over(&house.engine, vec![plan(terms(DAY, 1, 0, &[0]))], (5, 5)).is_err(), "nor is anything served");
    house.breaker.mend();
    assert_eq!(house.standing(&alice(START)), Standing::Good);
    assert!(!house.ask(&alice(START), "alice", START).await.unwrap().repeated);
}

#[tokio::test]
async fn only_one_deletion_of_a_person_is_open_whatever_the_plan() {
    let mut other = terms(0, 1, 0, &[0]);
    other.plan = "other".into();
    let mut house = House::with(vec![plan(terms(DAY, 1, 0, &[0])), plan(other)], (100, 100));
    house.ask(&alice(START), "alice", START).await.unwrap();
    house.plan = house.erasures.config.plans[1].clone();
    assert_eq!(house.ask(&alice(START), "alice", START).await.unwrap_err(), Fault::AnotherOpen);
}

#[tokio::test]
async fn what_is_parked_is_retried_and_a_preview_changes_nothing() {
    let house = House::new(terms(0, 1, 0, &[0]));
    let path = [("id", Cow::Borrowed("alice"))];
    let values = RequestValues { path: &path, ..RequestValues::default() };
    let target = house.erasures.target(&house.plan, &alice(START), &values).unwrap();
    let preview = house.erasures.preview(&house.plan, &target, at(START)).await.unwrap();
    assert!(preview.open.is_none() && !preview.frozen && preview.begins_at == START);
    assert_eq!(house.erasures.counts(START).states.len(), 0);
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    assert!(house.erasures.preview(&house.plan, &target, at(START)).await.unwrap().open.is_some());
    house.does(&id, Command::TakeLease(Lease { holder: 1, until: START + 60 }), START).await;
    house.does(&id, Command::Begin(1), START).await;
    house.does(&id, Command::Send(1, 0), START).await;
    house.does(&id, Command::Answered(1, 0, Answer::Status(400, 0)), START).await;
    assert_eq!(house.erasures.counts(START).parked, 1);
    for item in [Item::Step(1), Item::Probe(0)] {
        let retried = house.erasures.retry(&id, item, operator(), Accept::Again, at(START)).await;
        assert_eq!(retried.unwrap_err(), Fault::NotNow(NotNow::Nothing));
    }
    house.erasures.retry(&id, Item::Step(0), operator(), Accept::Again, at(START)).await.unwrap();
    assert_eq!(house.erasures.counts(START).parked, 0);
}

/// A second process on the same store sees what the first one did, also what it never saw open.
#[tokio::test]
async fn another_gateway_on_the_store_learns_of_held_and_erased_people() {
    let house = House::new(terms(0, 1, 0, &[0]));
    let other = over(&house.engine, vec![plan(terms(0, 1, 0, &[0]))], (100, 100)).unwrap();
    let mut chance = Chance::new(1);
    for number in 0..20 {
        let name = format!("p{number}");
        let who = principal(&name, &[], START as f64, json!({}));
        let id = house.ask(&who, &name, START).await.unwrap().known.erasure.id;
        if chance.one_in(2) {
            house.carry_out(&id, START + 10).await;
        }
        if chance.one_in(3) {
            other.core.ledger.rescan(at(START)).await.unwrap();
        }
    }
    other.core.ledger.rescan(at(START)).await.unwrap();
    for number in 0..20 {
        let who = principal(&format!("p{number}"), &[], START as f64, json!({}));
        assert_eq!(other.standing(&who), house.standing(&who), "{number}");
    }
    assert_eq!(other.counts(START), house.erasures.counts(START));
}

#[tokio::test]
async fn an_old_link_freezes_nothing_any_more() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    let token = house.erasures.link_token(&id);
    house.erasures.cancel(&id, Party::Owner, at(START)).await.unwrap();
    house.erasures.dispute(&id, &token, at(START + 30 * DAY)).await.unwrap();
    let who = alice(START + 31 * DAY);
    assert_eq!(house.ask(&who, "alice", START + 31 * DAY).await.unwrap_err(), Fault::Frozen);
    assert!(house.erasures.unfreeze(ISSUER, "alice", at(START + 31 * DAY)).await.unwrap());
    let late = house.erasures.dispute(&id, &token, at(START + 31 * DAY)).await;
    assert_eq!(late.unwrap_err(), Fault::NotNow(NotNow::TooLate));
    assert!(
        house.erasures.by_link(&id, &token, at(START + 31 * DAY)).await.is_ok(),
        "it still shows what became of it"
    );
    assert!(house.ask(&who, "alice", START + 31 * DAY).await.is_ok());
}

#[tokio::test]
async fn a_legal_hold_is_told_nobody_but_operators() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    house.erasures.hold(&id, operator(), "a court", at(START)).await.unwrap();
    let shown = [
        house.erasures.seen(&id, &alice(START), at(START)).await.unwrap(),
        house.erasures.listed(&alice(START), at(START)).await.unwrap(),
        house.erasures.described(),
    ];
    for answer in shown {
        let text = String::from_utf8(answer.response.into_body().to_vec()).unwrap();
        assert!(!text.contains("legal") && !text.contains("court"), "{text}");
        assert!(text.contains("holds"), "{text}");
    }
}

#[tokio::test]
async fn whoever_has_an_erased_persons_name_later_sees_nothing_of_their_deletion() {
    let house = House::new(terms(0, 1, 0, &[0]));
    let mine = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    let others = house.ask(&admin(), "bob", START).await.unwrap().known.erasure.id;
    for id in [&mine, &others] {
        house.carry_out(id, START + 5).await;
    }
    for (name, id) in [("alice", &mine), ("bob", &others)] {
        let token = |issued: u64| principal(name, &[], issued as f64, json!({}));
        let (old, new) = (token(START + 5), token(START + 6));
        let see = async |who: &Principal| {
            house.erasures.shown(id, Viewer::Caller(who), at(START + 9)).await.map(|view| view.role)
        };
        assert_eq!((see(&old).await, see(&new).await), (Ok(Role::Owner), Err(Fault::NotFound)), "{name}");
        assert_eq!(house.erasures.of_caller(&old, at(START + 9)).await.unwrap().len(), 1);
        assert!(house.erasures.of_caller(&new, at(START + 9)).await.unwrap().is_empty());
    }
    assert!(
        house.erasures.shown(&others, Viewer::Caller(&admin()), at(START + 9)).await.is_ok(),
        "whoever asked for another's"
    );
}

#[tokio::test]
async fn deletions_cannot_be_left_out_of_a_configuration_while_the_store_has_any_or_somebody_who_is_erased() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let look = |house: &House| none_left(house.erasures.store(), at(START));
    assert!(look(&house).is_ok());
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    assert!(look(&house).unwrap_err().message.contains("deletions"));
    house.erasures.cancel(&id, Party::Owner, at(START)).await.unwrap();
    house.place(&id, START).await;
    assert!(look(&house).is_ok(), "cancelled, and evidenced");
    let id = house.ask(&alice(START), "alice", START).await.unwrap().known.erasure.id;
    house.carry_out(&id, START + DAY).await;
    assert!(look(&house).is_err(), "a tombstone");
    house.breaker.break_it();
    assert!(look(&house).is_err(), "who cannot look knows of none");
}

/// Terms as they were written once, with a member that a later version added.
const OF_ANOTHER_VERSION: &str = include_str!("terms.json");

#[tokio::test]
async fn terms_that_another_version_wrote_are_those_that_a_deletion_was_made_under() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let ledger = &house.erasures.core.ledger;
    let text = OF_ANOTHER_VERSION.trim();
    let hash = hash_of_json(text);
    let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let batch = Batch::new().insert(Table::ErasurePlans, &hash, &raw, None);
    let batch = batch.insert(Table::ErasurePlans, &"0".repeat(64), &raw, None);
    ledger.store.commit(batch, at(START)).await.unwrap();
    let found = ledger.terms(&hash, at(START)).await.unwrap();
    assert_eq!((&*found.plan, found.steps.len(), found.grace_secs), ("account", 1, Some(DAY)));
    assert_ne!(hash_of(&found).unwrap(), hash, "this version would write them otherwise");
    let other = ledger.terms(&"0".repeat(64), at(START)).await;
    assert!(matches!(other, Err(StoreFault::Unreadable(_))), "not what they were");
}

#[tokio::test]
async fn a_deletion_that_cannot_be_read_is_listed_as_such_beside_the_others() {
    let mut house = House::new(terms(DAY, 1, 0, &[0]));
    house.ask(&alice(START), "alice", START).await.unwrap();
    let odd = plan(terms(2 * DAY, 1, 0, &[0]));
    let lost = hash_of(&odd.terms).unwrap();
    house.again(vec![odd], (1000, 1000));
    let bob = principal("bob", &[], START as f64, json!({}));
    let id = house.ask(&bob, "bob", START).await.unwrap().known.erasure.id;
    let without = Batch::new().forget(Table::ErasurePlans, &lost);
    house.erasures.store().commit(without, at(START)).await.unwrap();
    house.again(vec![plan(terms(DAY, 1, 0, &[0]))], (1000, 1000));
    let all = house.erasures.list(&Filter { limit: 10, ..Filter::default() }, at(START)).await.unwrap();
    assert_eq!((all.items.len(), &all.unreadable), (1, &vec![id.clone()]));
    let of_bob = Filter { subject: Some(("main", "bob")), limit: 10, ..Filter::default() };
    let of_bob = house.erasures.list(&of_bob, at(START)).await.unwrap();
    assert_eq!((of_bob.items.len(), of_bob.unreadable), (0, vec![id]));
}

/// What was said of the breaker.
#[derive(Debug, Default)]
struct OfBreaker(Mutex<Vec<bool>>);

impl ErasureObserver for OfBreaker {
    fn breaker(&self, tripped: bool) {
        self.0.lock().unwrap().push(tripped);
    }
}

#[tokio::test]
async fn another_gateway_on_the_store_learns_of_the_breaker_and_says_it_once() {
    let house = House::with(vec![plan(terms(DAY, 1, 0, &[0]))], (3, 1000));
    let told = Arc::new(OfBreaker::default());
    let plans = vec![plan(terms(DAY, 1, 0, &[0]))];
    let other = over_told(&house.engine, plans, (3, 1000), Arc::<OfBreaker>::clone(&told)).unwrap();
    other.core.ledger.rescan(at(START)).await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), [] as [bool; 0], "nobody has tripped or reset it");
    for number in 0..4 {
        let name = format!("p{number}");
        house.ask(&principal(&name, &[], 0.0, json!({})), &name, START).await.unwrap();
    }
    assert_eq!(other.breaker(), []);
    other.core.ledger.rescan(at(START + 1)).await.unwrap();
    assert_eq!(other.breaker(), house.erasures.breaker());
    other.core.ledger.rescan(at(START + 1)).await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), [true]);
    let restarted = Arc::new(OfBreaker::default());
    let plans = vec![plan(terms(DAY, 1, 0, &[0]))];
    over_told(&house.engine, plans, (3, 1000), Arc::<OfBreaker>::clone(&restarted)).unwrap();
    assert_eq!(*restarted.0.lock().unwrap(), [true], "it is still tripped");
    // Both at once: it is reset, whoever was first.
    let (one, two) = tokio::join!(house.erasures.reset_breaker(at(START + 2)), other.reset_breaker(at(START + 2)));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    house.erasures.core.ledger.rescan(at(START + 3)).await.unwrap();
    assert_eq!((house.erasures.breaker(), other.breaker()), (vec![], vec![]));
}

#[tokio::test]
async fn what_broke_off_is_looked_at_again_though_nobody_waits_for_it() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let ledger = house.erasures.core.ledger.clone();
    let is_in_doubt = || ledger.kept.in_doubt.swap(false, std::sync::atomic::Ordering::SeqCst);
    ledger.to_its_end(async { Ok(()) }).await.unwrap();
    assert!(!is_in_doubt());
    let broken: Result<(), Fault> = ledger.to_its_end(async { panic!("a test wants it") }).await;
    assert!(matches!(broken, Err(Fault::Store(StoreFault::Unavailable(_)))));
    assert!(is_in_doubt());
}

#[tokio::test]
async fn by_a_clock_that_leapt_the_breaker_forgets_nothing_and_no_grace_is_shorter() {
    let house = House::with(vec![plan(terms(DAY, 1, 0, &[0]))], (3, 1000));
    for number in 0..3 {
        let name = format!("p{number}");
        house.ask(&principal(&name, &[], 0.0, json!({})), &name, START).await.unwrap();
    }
    let path = [("id", Cow::Borrowed("bob"))];
    let values = RequestValues { path: &path, ..RequestValues::default() };
    let bob = principal("bob", &[], 0.0, json!({}));
    let target = house.erasures.target(&house.plan, &bob, &values).unwrap();
    let leapt = Now { unix_ms: (START + 7 * DAY) * 1000, ..at(START + 1) };
    let (proof, operation) = (Shown::default(), "DELETE /accounts/{id}");
    let ask = Ask { plan: &house.plan, operation, target, principal: &bob, proof, now: leapt };
    let erasure = house.erasures.request(ask).await.unwrap().known.erasure;
    assert!(erasure.is_held_by(HoldKind::Breaker));
    assert_eq!(erasure.state, State::Held { until: START + 8 * DAY });
}

#[tokio::test]
async fn nobody_is_the_second_person_of_what_they_asked_for_or_of_their_own_data_by_whichever_token() {
    let mut wanted = terms(DAY, 1, 0, &[0]);
    wanted.four_eyes = true;
    let mut by_claim = plan(wanted);
    by_claim.owner = Some(ClaimPath::Pointer("/uid".into()));
    let house = House::with(vec![by_claim], (100, 100));
    let alice = |scopes: &[&str], claims| principal("alice", scopes, START as f64, claims);
    let asked = house.ask(&alice(&[], json!({"uid": 7})), "7", START).await.unwrap();
    let id = asked.known.erasure.id;
    let approved = async |who: &Principal| {
        let view = house.erasures.for_caller(&id, Viewer::Caller(who), May::Approve, at(START)).await?;
        house.erasures.done(May::Approve, &view.known, who, at(START)).await.map(drop)
    };
    for who in [
        alice(&["deletions:approve"], json!({"uid": 7})),
        // Tokens of other clients have fewer claims.
        alice(&[], json!({})),
        alice(&["deletions:approve"], json!({})),
        principal("another", &["deletions:approve"], START as f64, json!({"uid": 7})),
    ] {
        assert_eq!(approved(&who).await, Err(Fault::NotNow(NotNow::SamePerson)), "{:?}", who.claims);
    }
    assert_eq!(approved(&principal("sue", &["deletions:approve"], START as f64, json!({}))).await, Ok(()));
}

#[tokio::test]
async fn whose_account_is_held_has_their_own_deletions_left_and_no_rights_over_those_of_others() {
    let house = House::new(terms(DAY, 1, 0, &[0]));
    let all = ["deletions:see", "deletions:cancel", "deletions:approve", "admin:accounts"];
    let root = principal("root", &all, START as f64, json!({}));
    let bobs = house.ask(&principal("bob", &[], START as f64, json!({})), "bob", START).await.unwrap();
    let zoes = house.ask(&root, "zoe", START).await.unwrap().known.erasure.id;
    let bobs = bobs.known.erasure.id;
    let role = async |id: &str, may: May| {
        house.erasures.for_caller(id, Viewer::Caller(&root), may, at(START)).await.map(|view| view.role)
    };
    assert_eq!(role(&bobs, May::Approve).await, Ok(Role::Entitled));
    let own = house.ask(&root, "root", START).await.unwrap().known.erasure.id;
    for may in [May::See, May::Cancel, May::Approve] {
        assert_eq!(role(&bobs, may).await, Err(Fault::NotFound), "{may:?}");
        assert_eq!(role(&zoes, may).await, Err(Fault::NotFound), "{may:?}");
    }
    assert_eq!((role(&own, May::See).await, role(&own, May::Cancel).await), (Ok(Role::Owner), Ok(Role::Owner)));
}

#[tokio::test]
async fn a_person_is_one_person_by_each_claim_that_they_are_known_by() {
    let mut other = terms(DAY, 1, 0, &[0]);
    (other.plan, other.while_held) = ("other".into(), crate::config::WhileHeld::Allow);
    let mut by_claim = plan(other);
    by_claim.owner = Some(ClaimPath::Pointer("/uid".into()));
    let mut house = House::with(vec![plan(terms(DAY, 1, 0, &[0])), by_claim], (100, 100));
    let plans = house.erasures.config.plans.clone();
    let who = principal("alice", &[], START as f64, json!({"uid": 7}));
    let id = house.ask(&who, "alice", START).await.unwrap().known.erasure.id;
    house.plan = plans[1].clone();
    assert_eq!(house.ask(&who, "7", START).await.unwrap_err(), Fault::AnotherOpen);
    house.erasures.dispute(&id, &house.erasures.link_token(&id), at(START)).await.unwrap();
    assert_eq!(house.ask(&who, "7", START + 1).await.unwrap_err(), Fault::Frozen);
    let path = [("id", Cow::Borrowed("7"))];
    let values = RequestValues { path: &path, ..RequestValues::default() };
    let target = house.erasures.target(&house.plan, &who, &values).unwrap();
    assert!(house.erasures.preview(&house.plan, &target, at(START + 1)).await.unwrap().frozen);
    // Somebody with the same value of the one claim, and nothing else of theirs, is somebody else.
    let bob = principal("bob", &[], START as f64, json!({"uid": 8}));
    assert!(house.ask(&bob, "8", START + 1).await.is_ok());
    // And the other way about, where tokens pass meanwhile.
    house.plan = plans[0].clone();
    assert_eq!(house.ask(&bob, "bob", START + 2).await.unwrap_err(), Fault::AnotherOpen);
}

#[tokio::test]
async fn whoever_is_held_for_asking_too_much_does_not_stop_everybody_by_going_on() {
    let mut house = House::with(vec![plan(terms(0, 1, 0, &[0]))], (8, 3));
    let is_held = |receipt: Receipt| receipt.known.erasure.is_held_by(HoldKind::Breaker);
    for number in 0..20 {
        house.ask(&admin(), &format!("p{number}"), START).await.unwrap();
    }
    assert!(!is_held(house.ask(&alice(START), "alice", START).await.unwrap()));
    house.again(vec![plan(terms(0, 1, 0, &[0]))], (8, 3));
    assert!(!is_held(house.ask(&principal("bob", &[], 0.0, json!({})), "bob", START).await.unwrap()));
    assert!(is_held(house.ask(&admin(), "p99", START + 1).await.unwrap()));
}
