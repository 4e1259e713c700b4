//! Account deletions: what a plan takes over is made durable, held, carried out, verified and evidenced.
//!
//! ```text
//!   the request's line:   standing ── is the caller's account held or erased?        standing.rs, subject.rs    in memory
//!                         target ──── whose data is it, and may the caller ask?      target.rs                  pure
//!                         request ─── one durable commit, then 202                   ledger.rs                  the store
//!
//!   afterwards:           a command ─> life::apply ─> the next record                life.rs, record.rs         pure
//!                                          └ done by people: this file; by time: carry/
//! ```
//! docs/decisions/012-account-deletion.md says why it is so.

pub mod api;
mod breaker;
pub mod carry;
mod evidence;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]
mod evidence_tests;
mod fault;
mod index;
mod ledger;
mod left;
pub mod life;
mod means;
mod pages;
pub mod record;
mod scrub;
mod settled;
mod standing;
mod subject;
mod target;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot begin should say why")]
pub(crate) mod testing;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails should say where"
)]
mod tests;
mod told;
mod view;

use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

pub use self::{
    breaker::Tripped,
    fault::Fault,
    index::Tally,
    left::none_left,
    means::{Answering, ErasureMeans, ErasureObserver, EvidenceFault, EvidenceLog, OwnData, Unobserved},
    record::{Erasure, HoldKind, Known, Party, Shown, State},
    standing::Standing,
    subject::{Frozen, SubjectRow},
    target::{MOST_BYTES, RequestBody, RequestValues, Target, TargetFault, is_value},
    view::{May, Role, Viewer},
};
use self::{
    carry::{Carrier, Upstreams},
    index::Sought,
    ledger::{Done, Kept, Ledger, Wanted},
    life::{Accept, Command, Item, NotNow},
    record::{ErasureRequest, Selector, Whose, hash_of},
    subject::{key_of, requester_key},
};
use crate::{
    clock::Now,
    config::{self, Config, CredentialSource, DeletionPlan, Materials, Problem, TOKEN_SUBJECT, Terms},
    policy::Principal,
    state::{self, Background},
    store::{Store, StoreFault},
    telemetry::audit::SignedCertificate,
};

/// The most deletions of one page.
pub const MAX_PAGE: usize = 200;
/// For how long after the end of a deletion its link freezes further ones, in seconds: 30 days.
const LINK_SECS: u64 = 30 * 86_400;
/// The most rows that are looked at for one page.
const MOST_LOOKED_AT: usize = 5000;

/// Account deletions, by one configuration.
pub struct Erasures {
    config: Arc<config::Deletions>,
    /// The identifiers of issuers by their names in the configuration.
    issuers: HashMap<Arc<str>, Arc<str>>,
    /// The services that calls go to.
    upstreams: Arc<Upstreams>,
    core: Arc<Core>,
}

/// What outlives a configuration.
pub(in crate::erasure) struct Core {
    ledger: Arc<Ledger>,
    carrier: Arc<Carrier>,
    background: Arc<Background>,
}

impl fmt::Debug for Erasures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erasures").field("config", &self.config.path).finish_non_exhaustive()
    }
}

/// A request that a plan took over; its proof and quota were judged.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The plan.
    pub plan: &'a DeletionPlan,
    /// The operation, as the plan writes it.
    pub operation: &'a str,
    /// Whose data.
    pub target: Target,
    /// Who asks.
    pub principal: &'a Principal,
    /// What they proved.
    pub proof: Shown,
    /// When.
    pub now: Now,
}

/// What whoever asked is told.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The deletion.
    pub known: Known,
    /// Whether it was asked for before.
    pub repeated: bool,
}

/// What would happen.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The terms that it would be made under.
    pub terms: Arc<Terms>,
    /// When it would begin.
    pub begins_at: u64,
    /// When it would be erased, if all goes well.
    pub erased_by: u64,
    /// The deletion that is open already, and would be the answer.
    pub open: Option<Known>,
    /// Whether deletions of the account are frozen.
    pub frozen: bool,
}

/// A deletion, for somebody.
#[derive(Debug, Clone)]
pub struct View {
    /// The deletion.
    pub known: Known,
    /// What they are to it.
    pub role: Role,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// A state's name.
    pub state: Option<&'a str>,
    /// A plan's name.
    pub plan: Option<&'a str>,
    /// A person: the issuer's name or identifier, and the value of the claim that the plan knows them by.
    pub subject: Option<(&'a str, &'a str)>,
    /// A hold on it.
    pub hold: Option<HoldKind>,
    /// Something in it waits for a person.
    pub parked: bool,
    /// The place that the page before ended at.
    pub after: Option<&'a str>,
    /// How many, [`MAX_PAGE`] at most.
    pub limit: usize,
}

/// A page of deletions.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The deletions.
    pub items: Vec<Known>,
    /// The numbers of those that cannot be read, whatever is looked for: damaged, or of a later version.
    pub unreadable: Vec<Box<str>>,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<Box<str>>,
}

impl Erasures {
    /// Prepares deletions, if there are plans; what was there for `previous` goes on. All that requests are judged by is read before
    /// this returns.
    ///
    /// # Errors
    /// What is wrong with the store: without it nobody could be told from somebody who is erased.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        means: &ErasureMeans<'_>,
        previous: Option<&Self>,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some(deletions) = &config.deletions else { return Ok(None) };
        let upstreams = Arc::new(Upstreams::compile(config, materials, means.roots)?);
        let before = previous.map(|previous| &previous.core);
        let core = Core::open(means, before)
            .map_err(|fault| vec![Problem::error(&deletions.span, format!("account deletions: {fault}"))])?;
        let made = Self { config: deletions.clone(), issuers: issuers(config), upstreams, core };
        if previous.is_none() {
            made.know();
        }
        Ok(Some(made))
    }

    /// People are known by the claims that it says, and told as it says.
    fn know(&self) {
        let kept = &self.core.ledger.kept;
        kept.standings.know(self.config.plans.iter().map(|plan| Selector::of(plan.owner.as_ref())));
        kept.config.store(Some(self.config.clone()));
    }

    /// Puts it in force: people are known by the claims that it says, and told as it says; what is due is carried out from now on. A
    /// process that only notes what operators say never comes here.
    pub fn put_in_force(&self) {
        self.know();
        self.core.carrier.calls.replace(self.upstreams.clone());
        self.core.background.start(vec![Box::pin(self.core.carrier.clone().run())]);
        self.core.ledger.kept.wake.notify_one();
    }

    /// Has the carrier end at the next boundary of a step, and waits for it until `deadline`; then it is stopped wherever it is, which
    /// is what a crash would be: another process takes it up when its lease has run out.
    pub async fn let_go(&self, deadline: Instant) {
        self.core.carrier.rest();
        for mut task in self.core.background.give_up() {
            if tokio::time::timeout_at(deadline.into(), &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
            }
        }
    }

    /// What it was compiled from.
    pub fn config(&self) -> &config::Deletions {
        &self.config
    }

    /// The plan with a name.
    pub fn plan(&self, name: &str) -> Option<&Arc<DeletionPlan>> {
        self.config.plans.iter().find(|plan| &*plan.name == name)
    }

    /// The time, without leaps: what is done to deletions cannot be taken back when the clock is.
    fn settled(&self, now: Now) -> Now {
        self.core.ledger.kept.settled.now(now)
    }

    fn store(&self) -> &Store {
        &self.core.ledger.store
    }

    // ── the request's line ──

    /// What is to be said to a caller whose credential was verified; nothing is asked of the store.
    pub fn standing(&self, principal: &Principal) -> Standing {
        self.core.ledger.kept.standings.of(self.store(), principal)
    }

    /// Whose data a request wants erased; a fault where the caller may not ask for that.
    pub fn target(
        &self,
        plan: &DeletionPlan,
        principal: &Principal,
        values: &RequestValues<'_>,
    ) -> Result<Target, TargetFault> {
        let issuer = match &plan.issuer {
            // A name that stands for nobody was refused when the configuration was read; should it not have been, nobody is let in.
            Some(name) => Some(&**self.issuers.get(name).ok_or(TargetFault::NotOwner)?),
            None => None,
        };
        let mut target = target::target(plan, issuer, principal, values)?;
        if target.own {
            target.also = self.keys_of_caller(principal);
        }
        Ok(target)
    }

    /// The keys of the rows that are a caller's, by each claim that people are known by.
    fn keys_of_caller(&self, principal: &Principal) -> Vec<Box<str>> {
        let selectors = self.core.ledger.kept.standings.selectors();
        let key = |selector: &Selector| {
            let value = target::claim_of(principal, selector)?;
            Some(key_of(self.store(), &principal.issuer_url, selector, &value).into())
        };
        selectors.iter().filter_map(key).collect()
    }

    /// The deletion that is open for a target, or why none may be asked for: what is known of the person by another claim counts as well.
    async fn open_for(&self, plan: &DeletionPlan, target: &Target, now: Now) -> Result<Option<Known>, Fault> {
        let ledger = &self.core.ledger;
        let key = key_of(self.store(), &target.issuer_url, &target.claim, &target.personal.subject);
        let open = ledger.open_of(&key, (&plan.name, &target.personal), now).await?;
        if open.is_some() {
            return Ok(open);
        }
        for other in target.also.iter().filter(|other| ***other != *key) {
            let Some(row) = ledger.subject(other, now).await? else { continue };
            if row.value.open.is_some() {
                return Err(Fault::AnotherOpen);
            }
            if row.value.frozen.is_some() {
                return Err(Fault::Frozen);
            }
        }
        Ok(None)
    }

    /// Asks for a deletion: it is durable when this returns. Asked for once more it is the same one.
    pub async fn request(&self, ask: Ask<'_>) -> Result<Receipt, Fault> {
        let Ask { plan, operation, target, principal, proof, now: real } = ask;
        let now = self.settled(real);
        let (ledger, store) = (&self.core.ledger, self.store());
        let key = key_of(store, &target.issuer_url, &target.claim, &target.personal.subject);
        if let Some(known) = self.open_for(plan, &target, now).await? {
            return Ok(Receipt { known, repeated: true });
        }
        let none = || StoreFault::Unavailable("the terms have no JSON".to_owned());
        let requester = if target.own {
            Party::Owner
        } else {
            Party::Caller { issuer_url: (&*principal.issuer_url).into(), subject: (&*principal.subject).into() }
        };
        let id = new_id()?;
        let mut personal = target.personal;
        // While the data is still there to say them; nothing is made without them.
        self.core.carrier.look_up(&plan.terms, &id, &mut personal).await?;
        if personal.token_subject.is_none() {
            personal.token_subject = personal.values.get(&*format!("captured.{TOKEN_SUBJECT}")).cloned();
        }
        let nameless = personal.token_subject.is_none() && !target.claim.is_subject();
        let asked = ErasureRequest {
            id,
            plan: (&*plan.name).into(),
            terms: hash_of(&plan.terms).ok_or_else(none)?,
            operation: operation.into(),
            whose: Whose { issuer_url: target.issuer_url, claim: target.claim, key: key.into(), own: target.own },
            requester,
            requester_key: requester_key(store, &principal.issuer_url, &principal.subject).into(),
            requester_issuer: (&*principal.issuer_url).into(),
            proof,
            personal,
            nameless,
            requested_at: now.unix_secs().max(real.unix_secs()),
        };
        let asked = ledger.ask(Wanted { erasure: asked.into(), terms: plan.terms.clone() }, now).await?;
        Ok(Receipt { known: asked.known, repeated: asked.repeated })
    }

    /// What would happen; nothing does.
    pub async fn preview(&self, plan: &DeletionPlan, target: &Target, now: Now) -> Result<Preview, Fault> {
        let (open, frozen) = match self.open_for(plan, target, now).await {
            Ok(open) => (open, false),
            Err(Fault::Frozen) => (None, true),
            Err(fault) => return Err(fault),
        };
        let terms = plan.terms.clone();
        let begins_at = now.unix_secs().saturating_add(terms.grace_secs.unwrap_or(0));
        let erased_by = begins_at.saturating_add(terms.verify_after_secs.last().copied().unwrap_or(0));
        Ok(Preview { terms, begins_at, erased_by, open, frozen })
    }

    // ── people ──

    /// A deletion, for whoever may see it.
    pub async fn shown(&self, id: &str, viewer: Viewer<'_>, now: Now) -> Result<View, Fault> {
        self.for_caller(id, viewer, May::See, now).await
    }

    /// A deletion, for whoever may do this to it: whoever may not even see it is told of none.
    pub async fn for_caller(&self, id: &str, viewer: Viewer<'_>, may: May, now: Now) -> Result<View, Fault> {
        let known = self.core.ledger.get(id, now).await?.ok_or(Fault::NotFound)?;
        let role = match viewer {
            Viewer::Operator(_) => Some(Role::Operator),
            // Whose own account is held has their own deletions left, and no rights over those of others.
            Viewer::Caller(principal) => view::role(self.store(), &known, principal, may)
                .filter(|role| *role == Role::Owner || !matches!(self.standing(principal), Standing::Held { .. })),
        };
        Ok(View { role: role.ok_or(Fault::NotFound)?, known })
    }

    /// A caller as a party to a deletion.
    pub fn party(&self, known: &Known, principal: &Principal) -> Party {
        view::party(self.store(), known, principal)
    }

    /// A caller's own deletions, the latest first.
    pub async fn of_caller(&self, principal: &Principal, now: Now) -> Result<Vec<Known>, Fault> {
        let mut found: Vec<Known> = Vec::new();
        for key in self.keys_of_caller(principal) {
            found.extend(self.of_person(&key, now).await?.0);
        }
        found.retain(|known| view::is_owner(self.store(), known, principal));
        found.sort_by_key(|known| std::cmp::Reverse(known.erasure.requested_at));
        Ok(found)
    }

    /// A person's deletions, the latest first; and the numbers of those that cannot be read.
    async fn of_person(&self, key: &str, now: Now) -> Result<(Vec<Known>, Vec<Box<str>>), Fault> {
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        let row = self.core.ledger.subject(key, now).await?;
        for id in row.iter().flat_map(|row| row.value.past.iter().rev()) {
            match self.core.ledger.get(id, now).await {
                Ok(known) => found.extend(known),
                Err(StoreFault::Unreadable(_)) => unreadable.push(id.clone()),
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok((found, unreadable))
    }

    /// Cancels a deletion of which no step was sent. Said once more, it is so.
    pub async fn cancel(&self, id: &str, by: Party, now: Now) -> Result<Known, Fault> {
        self.once(id, Command::Cancel(by), now).await
    }

    /// Approves a deletion, as a second person. Said once more, it is so.
    pub async fn approve(&self, id: &str, by: Party, now: Now) -> Result<Known, Fault> {
        self.once(id, Command::Approve(by), now).await
    }

    async fn once(&self, id: &str, command: Command, now: Now) -> Result<Known, Fault> {
        match self.change(id, command, now).await {
            Err(Fault::NotNow(NotNow::Already)) => Ok(self.core.ledger.get(id, now).await?.ok_or(Fault::NotFound)?),
            other => other,
        }
    }

    async fn change(&self, id: &str, command: Command, now: Now) -> Result<Known, Fault> {
        self.core.ledger.change(id, command, self.settled(now)).await
    }

    /// The secret of a deletion's link; nothing of it is kept.
    pub fn link_token(&self, id: &str) -> String {
        view::link_token(self.store(), id)
    }

    /// A deletion, for whoever has its link. A wrong one takes as long, and is as there were none.
    pub async fn by_link(&self, id: &str, token: &str, now: Now) -> Result<Known, Fault> {
        if !ledger::is_id(id) || !view::is_link_token(self.store(), id, token) {
            return Err(Fault::NotFound);
        }
        self.core.ledger.get(id, now).await?.ok_or(Fault::NotFound)
    }

    /// "This was not me", by whoever has the link: cancels or stops the deletion, and freezes further ones of the account.
    pub async fn dispute(&self, id: &str, token: &str, now: Now) -> Result<(), Fault> {
        if !ledger::is_id(id) || !view::is_link_token(self.store(), id, token) {
            return Err(Fault::NotFound);
        }
        let ended_at = self.core.ledger.get(id, now).await?.ok_or(Fault::NotFound)?.erasure.ended_at;
        // Whoever finds an old message cannot keep the account's deletions frozen with it, again and again.
        if ended_at.is_some_and(|at| now.unix_secs() > at.saturating_add(LINK_SECS)) {
            return Err(NotNow::TooLate.into());
        }
        self.change(id, Command::Dispute(Party::Link), now).await.map(drop)
    }

    /// "This was not me", by the data's subject with a credential.
    pub async fn dispute_as(&self, id: &str, by: Party, now: Now) -> Result<Known, Fault> {
        self.change(id, Command::Dispute(by), now).await
    }

    // ── operators ──

    /// Deletions, a page at a time: those that are open, then the others, each in the order of their numbers.
    pub async fn list(&self, filter: &Filter<'_>, now: Now) -> Result<Page, Fault> {
        let limit = filter.limit.clamp(1, MAX_PAGE);
        if let Some((issuer, value)) = filter.subject {
            return self.list_of_person(issuer, value, filter, now).await;
        }
        let (in_done, after) = match filter.after.and_then(|after| after.split_once('/')) {
            Some(("done", id)) => (true, Some(id)),
            Some((_, id)) => (false, Some(id)),
            None => (false, None),
        };
        let (mut page, mut looked_at) = (Page::default(), 0);
        if !in_done {
            if after.is_none() {
                page.unreadable = self.core.ledger.unreadable();
            }
            for id in self.core.ledger.page(sought(filter), after, limit) {
                match self.core.ledger.get(&id, now).await {
                    Ok(known) => page.items.extend(known),
                    // Once: it may be among them already.
                    Err(StoreFault::Unreadable(_)) if page.unreadable.contains(&id) => {}
                    Err(StoreFault::Unreadable(_)) => page.unreadable.push(id.clone()),
                    Err(fault) => return Err(fault.into()),
                }
                looked_at += 1;
                page.next = Some(format!("open/{id}").into());
            }
            if looked_at >= limit {
                return Ok(page);
            }
            page.next = None;
        }
        let mut after: Option<Box<str>> = if in_done { after.map(Into::into) } else { None };
        for _ in 0..MOST_LOOKED_AT / MAX_PAGE {
            let Done { found, unreadable, next } = self.core.ledger.done(after.as_deref(), MAX_PAGE, now).await?;
            page.unreadable.extend(unreadable);
            for known in found.into_iter().filter(|known| matches(known, filter)) {
                page.next = Some(format!("done/{}", known.erasure.id).into());
                page.items.push(known);
                if page.items.len() >= limit {
                    return Ok(page);
                }
            }
            page.next = next.as_ref().map(|id| format!("done/{id}").into());
            after = next;
            if after.is_none() {
                break;
            }
        }
        Ok(page)
    }

    async fn list_of_person(&self, issuer: &str, value: &str, filter: &Filter<'_>, now: Now) -> Result<Page, Fault> {
        let mut page = Page::default();
        for key in self.keys_of(issuer, value) {
            let (found, unreadable) = self.of_person(&key, now).await?;
            page.items.extend(found.into_iter().filter(|known| matches(known, filter)));
            page.unreadable.extend(unreadable);
        }
        Ok(page)
    }

    /// The rows that a person may have, by the issuer's name or identifier and the value of a claim.
    fn keys_of(&self, issuer: &str, value: &str) -> Vec<String> {
        let issuer = self.issuers.get(issuer).map_or(issuer, |url| &**url);
        let selectors = self.core.ledger.kept.standings.selectors();
        selectors.iter().map(|selector| key_of(self.store(), issuer, selector, value)).collect()
    }

    /// Puts a hold on a deletion.
    pub async fn hold(&self, id: &str, by: Party, reason: &str, now: Now) -> Result<Known, Fault> {
        self.change(id, Command::Hold(HoldKind::Legal, by, reason.into()), now).await
    }

    /// Lifts a hold; approving is for a second person, see [`Self::approve`].
    pub async fn release(&self, id: &str, kind: HoldKind, by: Party, now: Now) -> Result<Known, Fault> {
        self.change(id, Command::Release(kind, by), now).await
    }

    /// Has a step or a probe that waits for a person done again, or takes it as it is; a step also where the data is still there.
    pub async fn retry(&self, id: &str, item: Item, by: Party, accept: Accept, now: Now) -> Result<Known, Fault> {
        self.change(id, Command::Retry(item, by, accept), now).await
    }

    /// Lets deletions of a person be asked for again; whether they were frozen.
    pub async fn unfreeze(&self, issuer: &str, value: &str, now: Now) -> Result<bool, Fault> {
        self.change_person(issuer, value, |row| row.frozen = None, now).await
    }

    /// Lets tokens of a person pass that are older than the erasure; whether there was one.
    pub async fn readmit(&self, issuer: &str, value: &str, now: Now) -> Result<bool, Fault> {
        self.change_person(issuer, value, |row| row.erased_before = None, now).await
    }

    async fn change_person(
        &self,
        issuer: &str,
        value: &str,
        change: fn(&mut SubjectRow),
        now: Now,
    ) -> Result<bool, Fault> {
        let mut is_changed = false;
        for key in self.keys_of(issuer, value) {
            is_changed |= self.core.ledger.change_person(&key, change, self.settled(now)).await?;
        }
        Ok(is_changed)
    }

    /// For whom the breaker is tripped, and since when.
    pub fn breaker(&self) -> Vec<Tripped> {
        self.core.ledger.kept.breaker.tripped()
    }

    /// Lets deletions go on as before, those apart that are held; whether it was tripped.
    pub async fn reset_breaker(&self, now: Now) -> Result<bool, Fault> {
        self.core.ledger.reset_breaker(self.settled(now)).await
    }

    /// What a deletion has come to, signed: once it has ended the same whenever it is asked for, before that a report.
    pub async fn certificate(&self, id: &str, now: Now) -> Result<SignedCertificate, Fault> {
        let known = self.core.ledger.get(id, now).await?.ok_or(Fault::NotFound)?;
        let signed = self.core.carrier.evidence().certify(evidence::certificate(&known, now.unix_secs()));
        // Whoever asks is told the same as where the store cannot be used: that it is not to be had now.
        signed.map_err(|fault| StoreFault::Unavailable(fault.to_string()).into())
    }

    /// How many there are.
    pub fn counts(&self, at: u64) -> Tally {
        self.core.ledger.tally(at)
    }
}

impl Core {
    /// Over this store, with all that is known from before; or all that is there is read.
    fn open(means: &ErasureMeans<'_>, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, StoreFault> {
        if let Some(previous) = previous
            && Arc::ptr_eq(&previous.ledger.store, means.store)
            && Arc::ptr_eq(&previous.ledger.outbox, means.outbox)
        {
            return Ok(previous.clone());
        }
        let ledger = Arc::new(Ledger {
            store: means.store.clone(),
            outbox: means.outbox.clone(),
            observer: means.observer.clone(),
            kept: previous.map_or_else(|| Arc::new(Kept::default()), |previous| previous.ledger.kept.clone()),
            handle: means.handle.clone(),
        });
        if previous.is_none() {
            let now = means.clock.now();
            state::wait(ledger.load(now))?;
        }
        let carrier = Arc::new(Carrier::new(&ledger, means)?);
        let background = Background::after(means.handle, previous.map(|previous| &previous.background));
        Ok(Arc::new(Self { ledger, carrier, background }))
    }
}

fn issuers(config: &Config) -> HashMap<Arc<str>, Arc<str>> {
    let issuers = config.issuers.iter().map(|issuer| (issuer.name.clone(), issuer.url.clone()));
    let others = config.credentials.iter().map(|source: &Arc<CredentialSource>| {
        (source.name.clone(), format!("urn:stepgate:credentials:{}", source.name).into())
    });
    issuers.chain(others).collect()
}

fn sought<'a>(filter: &Filter<'a>) -> Sought<'a> {
    Sought { state: filter.state, plan: filter.plan, hold: filter.hold, parked: filter.parked }
}

fn matches(known: &Known, filter: &Filter<'_>) -> bool {
    let erasure = &known.erasure;
    filter.state.is_none_or(|state| erasure.state.name() == state)
        && filter.plan.is_none_or(|plan| &*erasure.plan == plan)
        && filter.hold.is_none_or(|kind| erasure.is_held_by(kind))
        && (!filter.parked || erasure.is_parked())
}

/// 128 random bits.
fn new_id() -> Result<Box<str>, StoreFault> {
    let mut bytes = [0_u8; 16];
    let none = |_| StoreFault::Unavailable("the system gives no randomness".to_owned());
    aws_lc_rs::rand::fill(&mut bytes).map_err(none)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)).into())
}
