//! Whole deletions over a real ledger: two nodes, people who ask, cancel, hold and dispute at any time, services that fail, a store that
//! loses answers, crashes at any await, clocks that leap, and plans that change. Afterwards everything is counted.
//!
//! `STEPGATE_SEEDS=5000 cargo test --lib erasure::tests::simulation` runs more of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    super::{
        Fault,
        ledger::{Kept, Ledger, Wanted},
        life::{Accept, Answer, Command, Item, NotNow, Tokens, Work, tokens, work},
        means::Unobserved,
        record::{Erasure, HoldKind, Known, Lease, Outcome, Party, Personal, Place, State, hash_of},
        standing::Standing,
        subject::{key_of, requester_key},
        testing::{ISSUER, deletions, erasure, plan, principal, terms},
    },
    model::Chance,
    shelf::{OnShelf, Shelf},
};
use crate::{
    clock::{Now, SystemClock},
    config::Terms,
    notify::{Channels, Outbox, Unobserved as Undelivered},
    store::{Engine, SealingKeys, Store, testing::key},
};

const PEOPLE: usize = 6;

/// What the test knows of what happened outside of the store.
#[derive(Default)]
struct World {
    chance: Mutex<Option<Chance>>,
    secs: Mutex<u64>,
    /// Requests to services: the deletion, the step, and whether it did it.
    sent: Mutex<Vec<(Box<str>, usize, bool)>>,
    /// What was answered: 202, and with which deletion.
    receipts: Mutex<Vec<(usize, Box<str>)>>,
    /// Cancelling was answered with: it is.
    cancelled: Mutex<HashSet<Box<str>>>,
    terms: Mutex<Vec<Arc<Terms>>>,
}

impl World {
    fn chance<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(self.chance.lock().unwrap().as_mut().unwrap())
    }

    fn now(&self) -> Now {
        let secs = *self.secs.lock().unwrap();
        Now { unix_ms: secs * 1000, instant: Instant::now() }
    }

    /// Now as a clock says that is not quite right.
    fn about_now(&self) -> Now {
        let now = self.now();
        let off = self.chance(|chance| if chance.one_in(30) { chance.below(400) } else { 0 });
        Now { unix_ms: (now.unix_ms + 200_000).saturating_sub(off as u64 * 1000), ..now }
    }

    fn sends_of(&self, id: &str, step: Option<usize>) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|(of, at, _)| **of == *id && step.is_none_or(|step| step == *at)).count()
    }
}

/// A gateway.
struct Node {
    ledger: Arc<Ledger>,
    tasks: Vec<JoinHandle<()>>,
}

pub(super) async fn ledger(engine: Arc<dyn Engine>, now: Now) -> Option<Arc<Ledger>> {
    let store = Arc::new(Store::open(engine, SealingKeys::new(key(1), vec![]), now).await.ok()?);
    let outbox = Outbox::new(store.clone(), Channels::default(), Arc::new(SystemClock), Arc::new(Undelivered));
    let kept = Arc::new(Kept::default());
    kept.config.store(Some(Arc::new(deletions(vec![plan(terms(0, 1, 0, &[]))], (40, 15)))));
    let ledger = Ledger { store, outbox, observer: Arc::new(Unobserved), kept, handle: Handle::current() };
    ledger.load(now).await.ok()?;
    Some(Arc::new(ledger))
}

fn person(number: usize) -> String {
    format!("person{number}")
}

fn wanted(ledger: &Ledger, world: &World, number: usize) -> Wanted {
    let terms = world.chance(|chance| {
        let all = world.terms.lock().unwrap();
        all[chance.below(all.len())].clone()
    });
    let of = person(number);
    let mut it: Erasure = erasure(&terms, false, 0).erasure;
    let (high, low) = world.chance(|chance| (chance.below(usize::MAX), chance.below(usize::MAX)));
    it.id = format!("{:032x}", (high as u128) << 64 | low as u128).into();
    it.whose.key = key_of(&ledger.store, ISSUER, &it.whose.claim, &of).into();
    let by = if world.chance(|chance| chance.one_in(2)) { of.clone() } else { "admin".to_owned() };
    if by == "admin" {
        it.requester = Party::Caller { issuer_url: ISSUER.into(), subject: "admin".into() };
        it.whose.own = false;
    }
    it.requester_key = requester_key(&ledger.store, ISSUER, &by).into();
    it.terms = hash_of(&terms).unwrap();
    it.personal = Some(Personal { subject: of.into(), values: BTreeMap::new(), token_subject: None, under: None });
    (it.events, it.holds) = (Vec::new(), Vec::new());
    Wanted { erasure: it, terms }
}

/// Of nobody are two deletions under way, whoever asked how often at once.
async fn one_at_a_time(world: &World, calm: &Arc<dyn Engine>) {
    let store = Store::open(calm.clone(), SealingKeys::new(key(1), vec![]), world.now()).await.unwrap();
    let open = store.page::<Erasure>(crate::store::Table::Erasures, "open/", None, 1000, world.now()).await.unwrap();
    let mut people = HashSet::new();
    for row in open.into_iter().filter(|row| !row.value.state.is_final()) {
        assert!(people.insert(row.value.whose.key), "two deletions of one person");
    }
}

/// What a person, an operator or a stranger with a link does.
async fn somebody(ledger: Arc<Ledger>, world: Arc<World>, calm: Arc<dyn Engine>) {
    let operator = || Party::Operator { name: "olga".into() };
    let now = world.now();
    let some_id = || {
        let receipts = world.receipts.lock().unwrap();
        let place = world.chance(|chance| chance.below(receipts.len()));
        receipts.get(place).map(|(_, id)| id.clone())
    };
    let what = world.chance(|chance| chance.below(12));
    if what < 4 {
        let number = world.chance(|chance| chance.below(PEOPLE));
        let wanted = wanted(&ledger, &world, number);
        if let Ok(opened) = ledger.ask(wanted, now).await {
            one_at_a_time(&world, &calm).await;
            world.receipts.lock().unwrap().push((number, opened.known.erasure.id));
        }
        return;
    }
    let Some(id) = some_id() else { return };
    let command = match what {
        4 | 5 => Command::Cancel(Party::Owner),
        6 => Command::Dispute(Party::Link),
        7 => Command::Hold(HoldKind::Legal, operator(), "".into()),
        8 => Command::Release(HoldKind::ALL[world.chance(|chance| chance.below(4))], operator()),
        9 => Command::Approve(operator()),
        10 => Command::Retry(Item::Step(world.chance(|chance| chance.below(3))), operator(), Accept::Again),
        _ => {
            let number = world.chance(|chance| chance.below(PEOPLE));
            let known = erasure(&terms(0, 1, 0, &[]), false, 0).erasure.whose.claim;
            let key = key_of(&ledger.store, ISSUER, &known, &person(number));
            let _ = ledger.change_person(&key, |row| row.frozen = None, now).await;
            let _ = ledger.reset_breaker(now).await;
            return;
        }
    };
    let is_cancel = matches!(command, Command::Cancel(_));
    match ledger.change(&id, command, now).await {
        Ok(known) if is_cancel => {
            assert_eq!(known.erasure.state, State::Cancelled);
            world.cancelled.lock().unwrap().insert(id);
        }
        Ok(_) | Err(_) => {}
    }
}

/// What the carrier does, until it is aborted.
async fn carry(ledger: Arc<Ledger>, world: Arc<World>, calm: Arc<dyn Engine>) {
    loop {
        let now = world.about_now();
        if world.chance(|chance| chance.one_in(5)) {
            let _ = ledger.rescan(now).await;
        }
        for id in ledger.due(now.unix_secs(), 4) {
            let _ = carry_one(&ledger, &world, &calm, &id).await;
        }
        for id in ledger.unplaced(4) {
            let _ = place(&ledger, &world, &id).await;
        }
        tokio::task::yield_now().await;
    }
}

async fn place(ledger: &Arc<Ledger>, world: &World, id: &str) -> Result<(), Fault> {
    let now = world.about_now();
    let known = ledger.get(id, now).await?.ok_or(Fault::NotFound)?;
    let placed = |number: u32| (number, Place { seq: u64::from(number), hash: "h".into() });
    let places = known.erasure.unplaced().map(|event| placed(event.number)).collect();
    ledger.change(id, Command::Placed(places), now).await.map(drop)
}

async fn carry_one(ledger: &Arc<Ledger>, world: &World, calm: &Arc<dyn Engine>, id: &str) -> Result<(), Fault> {
    let holder = u64::from(u8::from(world.chance(|chance| chance.one_in(2)))) + 10 * ledger_number(ledger);
    let now = world.about_now();
    let lease = Lease { holder, until: now.unix_secs() + 60 };
    let mut known = ledger.change(id, Command::TakeLease(lease), now).await?;
    for _ in 0..20 {
        let now = world.about_now();
        let todo = work(&known.erasure, &known.terms, now.unix_secs());
        let Some(one) = todo.get(world.chance(|chance| chance.below(todo.len()))) else { break };
        known = match *one {
            Work::Remind => ledger.change(id, Command::Remind(holder), now).await?,
            Work::Begin => ledger.change(id, Command::Begin(holder), now).await?,
            Work::OwnData => ledger.change(id, Command::OwnDataGone(holder), now).await?,
            Work::Scrub => {
                if known.erasure.unplaced().next().is_some() {
                    place(ledger, world, id).await?;
                }
                let events = known.erasure.events.len();
                ledger.change(id, Command::Scrubbed(holder, events), now).await?;
                return Ok(());
            }
            Work::Probe(place) => {
                let usual = if known.erasure.state == State::Verifying { 404 } else { 200 };
                let status =
                    world.chance(|chance| if chance.one_in(12) { [503, 200, 404][chance.below(3)] } else { usual });
                let answer = Answer::Status(status, now.unix_secs() + 2);
                ledger.change(id, Command::Probed(holder, place, answer), now).await?
            }
            Work::Send(place) => {
                ledger.change(id, Command::Send(holder, place), now).await?;
                let answer = send(world, calm, id, place).await;
                ledger.change(id, Command::Answered(holder, place, answer), world.about_now()).await?
            }
        };
    }
    ledger.change(id, Command::EndLease(holder), world.about_now()).await.map(drop)
}

/// A number for each node: where its ledger is.
fn ledger_number(ledger: &Arc<Ledger>) -> u64 {
    Arc::as_ptr(ledger).addr() as u64 >> 4
}

/// A service is asked to erase. Whatever the one who asks believes, it must have begun, and not be cancelled, in the store.
async fn send(world: &World, calm: &Arc<dyn Engine>, id: &str, step: usize) -> Answer {
    let store = Store::open(calm.clone(), SealingKeys::new(key(1), vec![]), world.now()).await.unwrap();
    let now = world.now();
    for folder in ["open", "done"] {
        let row = store.get::<Erasure>(crate::store::Table::Erasures, &format!("{folder}/{id}"), now).await.unwrap();
        if let Some(row) = row {
            assert!(!matches!(row.value.state, State::Held { .. } | State::Cancelled), "{:?}", row.value);
            assert!(row.value.begun_at.is_some() && row.value.steps[step].attempts > 0);
        }
    }
    let (is_done, answer) = world.chance(|chance| match chance.below(12) {
        0 => (true, Answer::None(now.unix_secs() + 3)),
        1 => (false, Answer::None(now.unix_secs() + 3)),
        2 => (false, Answer::Status(503, now.unix_secs() + 1)),
        3 => (false, Answer::Status(400, 0)),
        _ => (true, Answer::Status(204, 0)),
    });
    world.sent.lock().unwrap().push((id.into(), step, is_done));
    tokio::task::yield_now().await;
    answer
}

async fn run(seed: u64, shelf: Option<&Arc<Shelf>>, engine: Arc<dyn Engine>, calm: Arc<dyn Engine>, ticks: usize) {
    let world = Arc::new(World::default());
    *world.chance.lock().unwrap() = Some(Chance::new(seed + 1));
    *world.secs.lock().unwrap() = 1_000_000;
    let forms = [(0, 1, 0), (300, 2, 1), (2000, 3, 1), (0, 2, 0)];
    *world.terms.lock().unwrap() = forms
        .iter()
        .enumerate()
        .map(|(place, (grace, steps, probes))| {
            let mut terms = terms(*grace, *steps, *probes, [&[0][..], &[0, 100], &[]][place % 3]);
            terms.four_eyes = place == 2;
            terms.own_data = place == 1;
            terms.give_up_secs = 500;
            Arc::new(terms)
        })
        .collect();
    if let Some(shelf) = shelf {
        shelf.be_calm(false);
    }
    let mut nodes: Vec<Option<Node>> = vec![None, None];
    for _ in 0..ticks {
        for node in &mut nodes {
            // A crash: whatever is under way is dropped where it awaits, and memory is gone.
            if node.is_some() && world.chance(|chance| chance.one_in(25)) {
                for task in node.take().unwrap().tasks {
                    task.abort();
                    if let Err(ended) = task.await {
                        assert!(!ended.is_panic(), "seed {seed}: {ended}");
                    }
                }
            }
            if node.is_none()
                && let Some(ledger) = ledger(engine.clone(), world.now()).await
            {
                let carrier = tokio::spawn(carry(ledger.clone(), world.clone(), calm.clone()));
                *node = Some(Node { ledger, tasks: vec![carrier] });
            }
        }
        let some_node = world.chance(|chance| chance.below(2));
        if let Some(Some(node)) = nodes.get_mut(some_node) {
            for _ in 0..world.chance(|chance| chance.below(4)) {
                node.tasks.push(tokio::spawn(somebody(node.ledger.clone(), world.clone(), calm.clone())));
            }
        }
        for _ in 0..world.chance(|chance| chance.below(30)) {
            tokio::task::yield_now().await;
        }
        let on = world.chance(|chance| if chance.one_in(10) { chance.below(1500) } else { chance.below(30) });
        *world.secs.lock().unwrap() += on as u64;
    }
    // No promise was broken on the way: a panic of a task is a failed assertion.
    for node in nodes.into_iter().flatten() {
        for task in node.tasks {
            task.abort();
            if let Err(ended) = task.await {
                assert!(!ended.is_panic(), "seed {seed}: {ended}");
            }
        }
    }
    if let Some(shelf) = shelf {
        shelf.be_calm(true);
    }
    // A process that is gone has nothing under way; here it has until then.
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    settle(seed, &world, calm).await;
}

/// Peace: people do what is asked of them, services answer, and all of it comes to its end. Then it is counted.
async fn settle(seed: u64, world: &Arc<World>, calm: Arc<dyn Engine>) {
    let ledger = ledger(calm, world.now()).await.unwrap();
    let all = everything(&ledger, world).await;
    for known in &all {
        finish(&ledger, world, &known.erasure.id).await;
    }
    let all = everything(&ledger, world).await;
    let by_id: HashMap<&str, &Known> = all.iter().map(|known| (&*known.erasure.id, known)).collect();
    for (number, id) in world.receipts.lock().unwrap().iter() {
        let known = by_id.get(&**id).unwrap_or_else(|| panic!("seed {seed}: {id} of {number} was lost"));
        let key = key_of(&ledger.store, ISSUER, &known.erasure.whose.claim, &person(*number));
        assert_eq!(*known.erasure.whose.key, *key, "seed {seed}: {id} is of somebody else");
    }
    for id in world.cancelled.lock().unwrap().iter() {
        assert_eq!(by_id[&**id].erasure.state, State::Cancelled, "seed {seed}");
    }
    for known in &all {
        let it = &known.erasure;
        assert!(it.is_settled() && it.personal.is_none(), "seed {seed}: {it:?}");
        assert!(
            it.events.iter().enumerate().all(|(place, event)| event.number as usize == place && event.place.is_some())
        );
        if it.state == State::Cancelled {
            assert_eq!(world.sends_of(&it.id, None), 0, "seed {seed}: sent after it was cancelled");
            continue;
        }
        for (place, step) in it.steps.iter().enumerate() {
            assert!(world.sends_of(&it.id, Some(place)) <= step.attempts as usize, "seed {seed}: sent unseen");
            let sent = world.sent.lock().unwrap();
            let did = sent.iter().any(|(of, at, did)| *of == it.id && *at == place && *did);
            assert!(did, "seed {seed}: {} says that step {place} was done", it.id);
        }
    }
    for number in 0..PEOPLE {
        let them = principal(&person(number), &[], 0.0, serde_json::json!({}));
        let key = key_of(&ledger.store, ISSUER, &super::super::record::Selector::Subject, &person(number));
        let erased =
            all.iter().any(|known| known.erasure.whose.key[..] == *key && known.erasure.state == State::Erased);
        let expected = if erased { Standing::Erased } else { Standing::Good };
        assert_eq!(ledger.kept.standings.of(&ledger.store, &them), expected, "seed {seed}");
        let row = ledger.subject(&key, world.now()).await.unwrap();
        assert!(row.is_none_or(|row| row.value.open.is_none() && row.value.block.is_none() && !row.value.refused));
    }
}

async fn everything(ledger: &Arc<Ledger>, world: &World) -> Vec<Known> {
    let now = world.now();
    let mut all = Vec::new();
    for id in ledger.page(super::super::index::Sought::default(), None, 10_000) {
        all.push(ledger.get(&id, now).await.unwrap().unwrap());
    }
    let mut after = None;
    loop {
        let super::super::ledger::Done { found, unreadable, next } =
            ledger.done(after.as_deref(), 100, now).await.unwrap();
        assert!(unreadable.is_empty());
        all.extend(found);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

async fn finish(ledger: &Arc<Ledger>, world: &World, id: &str) {
    let operator = || Party::Operator { name: "olga".into() };
    for _ in 0..300 {
        let now = world.now();
        let known = ledger.get(id, now).await.unwrap().unwrap();
        let it = &known.erasure;
        if it.unplaced().next().is_some() {
            place(ledger, world, id).await.unwrap();
        }
        if it.state.is_final() {
            continue;
        }
        for hold in &it.holds {
            let command = match hold.kind {
                HoldKind::Approval => Command::Approve(operator()),
                kind => Command::Release(kind, operator()),
            };
            ledger.change(id, command, now).await.unwrap();
        }
        for (at, step) in it.steps.iter().enumerate() {
            if matches!(step.outcome, Outcome::Parked { .. }) {
                ledger.change(id, Command::Retry(Item::Step(at), operator(), Accept::Again), now).await.unwrap();
            }
        }
        for (at, probe) in it.probes.iter().enumerate() {
            if probe.parked.is_some() {
                let accept = if it.state == State::CarryingOut { Accept::AsItIs } else { Accept::Again };
                let command = Command::Retry(Item::Probe(at), operator(), accept);
                let done = ledger.change(id, command, now).await;
                assert!(matches!(done, Ok(_) | Err(Fault::NotNow(NotNow::Nothing))), "{done:?}");
            }
        }
        follows(ledger, &ledger.get(id, now).await.unwrap().unwrap(), now).await;
        *world.secs.lock().unwrap() += 70;
        let _ = carry_one(ledger, world, &ledger_engine(ledger), id).await;
    }
    let it = ledger.get(id, world.now()).await.unwrap().unwrap().erasure;
    assert!(it.is_settled(), "it came to no end: {it:#?} {:?} {:?} {:?}", it.holds, it.steps, it.probes);
}

/// What is said of the person is what the deletion says.
async fn follows(ledger: &Arc<Ledger>, known: &Known, now: Now) {
    let it = &known.erasure;
    let row = ledger.subject(&it.whose.key, now).await.unwrap().unwrap().value;
    assert_eq!(row.open.as_ref(), Some(&it.id));
    let (block, is_refused) = match tokens(it, &known.terms) {
        Tokens::Pass => (None, false),
        Tokens::Held(status) => (Some(status), false),
        Tokens::Refused => (None, true),
        Tokens::Before(at) => {
            assert!(row.erased_before.is_some_and(|before| before >= at));
            (None, false)
        }
    };
    assert_eq!((row.block, row.refused), (block, is_refused), "{it:?}");
    assert!(ledger.kept.standings.agrees(&it.whose.key, &row));
}

fn ledger_engine(ledger: &Ledger) -> Arc<dyn Engine> {
    ledger.store.parts_for_tests().0
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn seeds(usual: u64) -> u64 {
    std::env::var("STEPGATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn nothing_is_lost_doubled_or_done_after_a_cancel_whatever_fails() {
    for seed in 0..seeds(20) {
        let shelf = Shelf::new(seed);
        // What looks at the rows in peace is another view of the same ones.
        let engine: Arc<dyn Engine> = Arc::new(OnShelf(shelf.clone()));
        let calm: Arc<dyn Engine> = Arc::new(super::shelf::Calm(shelf.clone()));
        runtime().block_on(run(seed, Some(&shelf), engine, calm, 150));
    }
}

#[test]
fn the_same_holds_over_a_real_file() {
    for seed in 0..seeds(2).min(20) {
        let (engine, _) = Store::for_tests().parts_for_tests();
        runtime().block_on(run(seed, None, engine.clone(), engine, 60));
    }
}
