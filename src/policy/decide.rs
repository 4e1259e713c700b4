//! The decision: a pure function with one fixed precedence: token fault → scope and `when` → level → freshness → factors → grant.
//! Deletions are judged by the requirement that the guard and the route make together. Where the token falls short of the
//! requirement, and of nothing before it, a second factor is weighed in its place (`proof.rs`).

use std::sync::{Arc, LazyLock};

use super::{
    Assurance, Condition, ConditionInput, ConditionOutcome, Credential, IssuerName, Possession, Principal, Reason,
    Requirement, SecondFactor, SecondFactors, StepUp,
    proof::{Part, Proof, Wanted},
};

/// What a route asks of a request.
#[derive(Debug, Default)]
pub struct AccessPolicy {
    /// Whose credentials it takes: issuers and other sources; empty: it asks for none.
    pub issuers: Box<[IssuerName]>,
    /// Scopes that a token must have, all of them.
    pub scopes: Box<[Arc<str>]>,
    /// A condition.
    pub when: Option<Condition>,
    /// The proof it needs.
    pub assurance: Option<Requirement>,
    /// The proof that a guarded operation needs here, the route's own included; `None`: the route has left the guard.
    pub deletion: Option<Requirement>,
}

impl AccessPolicy {
    /// The proof that a request needs; `guarded`: it is an operation under the deletion guard.
    pub fn requirement(&self, guarded: bool) -> Option<&Requirement> {
        match &self.deletion {
            Some(deletion) if guarded => Some(deletion),
            Some(_) | None => self.assurance.as_ref(),
        }
    }
}

/// What is known of a request when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What became of its credentials.
    pub credential: &'a Credential,
    /// The key that the caller proved to hold.
    pub possession: Option<Possession>,
    /// Second factors that were shown by the holder of the credential.
    pub second_factors: &'a [Arc<SecondFactor>],
    /// Whether it is an operation under the deletion guard.
    pub guarded: bool,
    /// The proof that it needs as an operation of a deletion plan: the guard's, the route's and the plan's together. `None`: no plan
    /// takes it over.
    pub planned: Option<&'a Requirement>,
    /// What a condition sees; its principal is filled in from the credential.
    pub input: ConditionInput<'a>,
}

/// The right to be forwarded, made by [`decide`] alone.
#[derive(Debug)]
#[must_use = "a permit that is not enforced is a request that hangs"]
pub struct Permit {
    principal: Option<Arc<Principal>>,
    possession: Option<Possession>,
    second_factors: SecondFactors,
    guarded: bool,
}

/// Why a request is refused and what the caller is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// What would help, for `WWW-Authenticate` and the problem document.
    pub challenge: Challenge,
    /// For the operator alone.
    pub detail: Option<String>,
}

/// What a refused caller is told to do (RFC 6750 §3, RFC 9470 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Send a token: no credentials came, so no error code is given.
    Token,
    /// Send one credential, in one place.
    InvalidRequest,
    /// Send another token, or another credential.
    InvalidToken,
    /// Send a token with these scopes.
    Scope(Box<[Arc<str>]>),
    /// Authenticate again, better or more recently.
    StepUp(Box<StepUp>),
    /// Try again in so many seconds.
    Later(u32),
    /// Nothing would help.
    Nothing,
}

/// What [`decide`] says.
#[derive(Debug)]
pub enum Decision {
    /// The request may go on.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

/// One requirement and whether it held, for `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The requirement's name: `token`, `scopes`, `when`, `level`, `freshness`, `factors` or `grant`.
    pub name: &'static str,
    /// Whether it held.
    pub held: Held,
}

/// Whether a requirement held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The route does not ask for it.
    NotAsked,
    /// It held.
    Yes,
    /// It held by a second factor in the token's place.
    BySecondFactor,
    /// A machine's proof of possession stands in its place.
    Instead,
    /// It did not.
    No(Denial),
}

type Step = fn(&AccessPolicy, &Facts<'_>) -> Held;

/// The precedence of what comes before any proof, written once; [`Part::ALL`] has that of the proof.
const STEPS: [(&str, Step); 3] = [("token", token), ("scopes", scopes), ("when", when)];

/// Judges a request.
pub fn decide(policy: &AccessPolicy, facts: &Facts<'_>) -> Decision {
    for (_, step) in STEPS {
        if let Held::No(denial) = step(policy, facts) {
            return Decision::Deny(denial);
        }
    }
    let second = match Asked::of(policy, facts) {
        Some(asked) => match asked.fault() {
            Some(reason) => return Decision::Deny(asked.denial(reason)),
            None => asked.proof.second.cloned(),
        },
        None => None,
    };
    let principal = match facts.credential {
        Credential::Valid(principal) if asks_for_token(policy, facts) => Some(principal.clone()),
        Credential::Valid(_) | Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => None,
    };
    let possession = facts.possession.filter(|_| principal.is_some());
    let second_factors = second.into_iter().collect();
    Decision::Allow(Permit { principal, possession, second_factors, guarded: is_guarded(policy, facts) })
}

/// Judges a request and says of each requirement whether it held.
pub fn explain(policy: &AccessPolicy, facts: &Facts<'_>) -> Vec<Check> {
    let asked = Asked::of(policy, facts);
    let held = |part| asked.as_ref().map_or(Held::NotAsked, |asked| asked.held(part));
    let steps = STEPS.iter().map(|(name, step)| Check { name, held: step(policy, facts) });
    steps.chain(Part::ALL.into_iter().map(|part| Check { name: part.name(), held: held(part) })).collect()
}

impl Permit {
    /// Whoever was verified; `None` where no token was asked for.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// The key that whoever was verified proved to hold.
    pub fn possession(&self) -> Option<Possession> {
        self.possession
    }

    /// The second factors that it rests on; none where the token's own proof was enough.
    pub fn second_factors(&self) -> &[Arc<SecondFactor>] {
        &self.second_factors
    }

    /// Whether the operation must be audited before it is forwarded.
    pub fn guarded(&self) -> bool {
        self.guarded
    }

    /// One permit for a request that was judged in two ways: with the obligations of both.
    pub fn and(mut self, other: Self) -> Self {
        for second in other.second_factors {
            if !self.second_factors.iter().any(|known| Arc::ptr_eq(known, &second)) {
                self.second_factors.push(second);
            }
        }
        Self {
            principal: self.principal.or(other.principal),
            possession: self.possession.or(other.possession),
            second_factors: self.second_factors,
            guarded: self.guarded || other.guarded,
        }
    }
}

impl Denial {
    fn new(reason: Reason, challenge: Challenge) -> Self {
        Self { reason, challenge, detail: None }
    }
}

fn is_guarded(policy: &AccessPolicy, facts: &Facts<'_>) -> bool {
    facts.planned.is_some() || (facts.guarded && policy.deletion.is_some())
}

/// A guarded operation always needs a token, on a public route one of any issuer.
fn asks_for_token(policy: &AccessPolicy, facts: &Facts<'_>) -> bool {
    !policy.issuers.is_empty() || is_guarded(policy, facts)
}

fn principal<'f>(facts: &Facts<'f>) -> Option<&'f Principal> {
    match facts.credential {
        Credential::Valid(principal) => Some(principal),
        Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => None,
    }
}

fn token(policy: &AccessPolicy, facts: &Facts<'_>) -> Held {
    if !asks_for_token(policy, facts) {
        return Held::NotAsked;
    }
    Held::No(match facts.credential {
        Credential::Valid(principal) => {
            if policy.issuers.is_empty() || policy.issuers.contains(&principal.issuer) {
                return Held::Yes;
            }
            Denial::new(Reason::TokenIssuerNotAccepted, Challenge::InvalidToken)
        }
        Credential::Absent => Denial::new(Reason::TokenMissing, Challenge::Token),
        Credential::Invalid(reason @ Reason::InvalidCredentials) => Denial::new(*reason, Challenge::InvalidRequest),
        // There is nothing wrong with it: another one would be refused as well.
        Credential::Invalid(reason @ Reason::SubjectHeld) => Denial::new(*reason, Challenge::Nothing),
        Credential::Invalid(reason) => Denial::new(*reason, Challenge::InvalidToken),
        Credential::Unavailable { reason, retry_after_secs } => {
            Denial::new(*reason, Challenge::Later(*retry_after_secs))
        }
    })
}

fn scopes(policy: &AccessPolicy, facts: &Facts<'_>) -> Held {
    if policy.scopes.is_empty() {
        return Held::NotAsked;
    }
    let has = |scope| principal(facts).is_some_and(|principal| principal.scopes.contains(scope));
    if policy.scopes.iter().all(has) {
        return Held::Yes;
    }
    Held::No(Denial::new(Reason::ScopeMissing, Challenge::Scope(policy.scopes.clone())))
}

fn when(policy: &AccessPolicy, facts: &Facts<'_>) -> Held {
    let Some(condition) = &policy.when else { return Held::NotAsked };
    let asked = asks_for_token(policy, facts);
    let input = ConditionInput { principal: principal(facts).filter(|_| asked), ..facts.input };
    match condition.evaluate(&input) {
        ConditionOutcome::True => Held::Yes,
        ConditionOutcome::False => Held::No(Denial::new(Reason::ConditionFalse, Challenge::Nothing)),
        ConditionOutcome::Error(why) => {
            Held::No(Denial { detail: Some(why), ..Denial::new(Reason::ConditionError, Challenge::Nothing) })
        }
    }
}

/// The proof that a request needs, and the best that it has.
struct Asked<'a> {
    wanted: Wanted<'a>,
    /// What the token proves by itself.
    token: Proof<'a>,
    /// What is weighed: that, or a second factor in its place.
    proof: Proof<'a>,
    fault: Option<(Part, Reason)>,
    /// Whether the level takes this machine's proof of possession in place of what it asks of a person.
    is_proved_otherwise: bool,
}

impl<'a> Asked<'a> {
    fn of(policy: &'a AccessPolicy, facts: &Facts<'a>) -> Option<Self> {
        let requirement = facts.planned.or_else(|| policy.requirement(facts.guarded))?;
        let principal = principal(facts);
        let wanted = Wanted { requirement, guarded: is_guarded(policy, facts), now: facts.input.now };
        // Nobody has shown a second factor who has shown no first.
        let (token, second_factors) = match principal {
            Some(principal) => (Proof::of_token(principal), facts.second_factors),
            None => (Proof::of_nobody(&NOTHING), &[][..]),
        };
        let machines = requirement.machines.as_ref();
        let is_proved_otherwise =
            machines.zip(principal).is_some_and(|(machines, principal)| machines.accepts(principal, facts.possession));
        let (proof, fault) = match is_proved_otherwise {
            true => (token, None),
            false => wanted.weigh(token, second_factors),
        };
        Some(Self { wanted, token, proof, fault, is_proved_otherwise })
    }

    fn fault(&self) -> Option<Reason> {
        self.fault.map(|(_, reason)| reason)
    }

    fn held(&self, part: Part) -> Held {
        let fault = self.wanted.fault(&self.proof, part).filter(|_| !self.is_proved_otherwise);
        match fault {
            Some(reason) => Held::No(self.denial(reason)),
            None if !part.is_asked(self.wanted.requirement) => Held::NotAsked,
            None if self.is_proved_otherwise => Held::Instead,
            None if self.proof.second.is_some() => Held::BySecondFactor,
            None => Held::Yes,
        }
    }

    /// The challenge names all that is missing, whichever part is found first.
    fn denial(&self, reason: Reason) -> Denial {
        Denial::new(reason, Challenge::StepUp(Box::new(self.wanted.step_up(&self.token))))
    }
}

/// What is proved where nobody is there.
static NOTHING: LazyLock<Assurance> = LazyLock::new(Assurance::default);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::LazyLock,
        time::{Duration, Instant},
    };

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Now,
        jose::{Algorithm, Algorithms},
        policy::{
            Assurance, Categories, Category, CertificateProof, Covers, Factor, FactorRule, Factors, Kind, MachineProof,
            Marks,
        },
    };

    const NOW_SECS: u64 = 1_800_000_000;
    static HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

    fn input() -> ConditionInput<'static> {
        ConditionInput {
            method: "GET",
            path: "/",
            path_params: &[],
            query: None,
            headers: &HEADERS,
            client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            principal: None,
            now: Now { unix_ms: NOW_SECS * 1000, instant: Instant::now() },
        }
    }

    fn principal(issuer: &str, acr: Option<&str>, amr: &[&str], age_secs: Option<f64>) -> Credential {
        Credential::Valid(Arc::new(Principal {
            issuer: issuer.into(),
            issuer_url: "https://idp.example/".into(),
            subject: "alice".into(),
            client: None,
            scopes: Box::new(["items:read".into()]),
            assurance: Assurance {
                acr: acr.map(Into::into),
                further_acr: Box::default(),
                amr: amr.iter().map(|value| Arc::from(*value)).collect(),
                auth_time: age_secs.map(|age| NOW_SECS as f64 - age),
                ..Assurance::default()
            },
            expires_at: None,
            leeway_secs: 30.0,
            claims: serde_json::json!({"department": "finance"}),
            kind: Kind::Person,
            marks: Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        }))
    }

    fn values(list: &[&str]) -> Option<Box<[Arc<str>]>> {
        Some(list.iter().map(|value| Arc::from(*value)).collect())
    }

    fn facts<'a>(credential: &'a Credential, second_factors: &'a [Arc<SecondFactor>], guarded: bool) -> Facts<'a> {
        Facts { credential, possession: None, second_factors, guarded, planned: None, input: input() }
    }

    fn reason(policy: &AccessPolicy, credential: &Credential, guarded: bool) -> Reason {
        match decide(
            policy,
            &Facts { credential, possession: None, second_factors: &[], guarded, planned: None, input: input() },
        ) {
            Decision::Allow(_) => Reason::Allowed,
            Decision::Deny(denial) => denial.reason,
        }
    }

    #[test]
    fn an_operation_of_a_deletion_plan_is_judged_by_what_the_plan_needs_and_is_always_guarded() {
        let planned = Requirement { acr: values(&["gold"]), amr: values(&["mfa"]), ..Requirement::default() };
        let guard = Requirement { amr: values(&["mfa"]), ..Requirement::default() };
        // Even on a route that has left the guard, which `check` refuses.
        for deletion in [Some(guard), None] {
            let policy = AccessPolicy { deletion, ..AccessPolicy::default() };
            let judged = |credential: &Credential| {
                let facts = facts(credential, &[], true);
                decide(&policy, &Facts { planned: Some(&planned), ..facts })
            };
            let Decision::Deny(denial) = judged(&Credential::Absent) else { panic!("nobody deletes") };
            assert_eq!(denial.reason, Reason::TokenMissing);
            let Decision::Deny(denial) = judged(&principal("main", None, &["mfa"], Some(1.0))) else {
                panic!("no gold")
            };
            assert_eq!(denial.reason, Reason::AcrInsufficient);
            let Decision::Allow(permit) = judged(&principal("main", Some("gold"), &["mfa"], Some(1.0))) else {
                panic!()
            };
            assert!(permit.guarded() && permit.principal().is_some());
        }
    }

    #[test]
    fn whose_account_is_held_is_not_sent_for_another_token() {
        let policy = AccessPolicy { issuers: Box::new(["main".into()]), ..AccessPolicy::default() };
        let challenge = |reason| challenge(&policy, &Credential::Invalid(reason), false);
        assert_eq!(challenge(Reason::SubjectHeld), Challenge::Nothing);
        assert_eq!(challenge(Reason::SubjectErased), Challenge::InvalidToken);
    }

    fn challenge(policy: &AccessPolicy, credential: &Credential, guarded: bool) -> Challenge {
        match decide(
            policy,
            &Facts { credential, possession: None, second_factors: &[], guarded, planned: None, input: input() },
        ) {
            Decision::Allow(_) => panic!("allowed"),
            Decision::Deny(denial) => denial.challenge,
        }
    }

    fn strict() -> AccessPolicy {
        AccessPolicy {
            issuers: Box::new(["main".into()]),
            scopes: Box::new(["items:read".into()]),
            when: Some(Condition::compile(r#"claims.department == "finance""#, "UTC").unwrap()),
            assurance: Some(Requirement { acr: values(&["gold", "phr"]), ..Requirement::default() }),
            deletion: Some(Requirement {
                acr: values(&["gold"]),
                max_age: Some(Duration::from_secs(300)),
                ..Requirement::default()
            }),
        }
    }

    #[test]
    fn the_truth_table_of_credentials_and_routes() {
        let public = AccessPolicy {
            deletion: Some(Requirement { amr: values(&["mfa"]), ..Requirement::default() }),
            ..AccessPolicy::default()
        };
        let protected = AccessPolicy { issuers: Box::new(["main".into()]), ..AccessPolicy::default() };
        let unavailable = Credential::Unavailable { reason: Reason::KeysUnavailable, retry_after_secs: 3 };
        use Reason::*;
        for (credential, public_plain, public_guarded, protected_plain) in [
            (Credential::Absent, Allowed, TokenMissing, TokenMissing),
            (Credential::Invalid(TokenSignature), Allowed, TokenSignature, TokenSignature),
            (Credential::Invalid(InvalidCredentials), Allowed, InvalidCredentials, InvalidCredentials),
            (unavailable, Allowed, KeysUnavailable, KeysUnavailable),
            (principal("main", None, &["mfa"], None), Allowed, Allowed, Allowed),
            (principal("main", None, &["pwd"], None), Allowed, AmrInsufficient, Allowed),
            (principal("other", None, &["mfa"], None), Allowed, Allowed, TokenIssuerNotAccepted),
        ] {
            assert_eq!(reason(&public, &credential, false), public_plain, "{credential:?}");
            assert_eq!(reason(&public, &credential, true), public_guarded, "{credential:?}");
            assert_eq!(reason(&protected, &credential, false), protected_plain, "{credential:?}");
        }
    }

    #[test]
    fn the_precedence_is_token_scope_condition_level_freshness() {
        let mut policy = strict();
        assert_eq!(reason(&policy, &Credential::Absent, true), Reason::TokenMissing);
        policy.scopes = Box::new(["items:write".into()]);
        assert_eq!(reason(&policy, &principal("main", None, &[], None), true), Reason::ScopeMissing);
        policy.scopes = Box::default();
        policy.when = Some(Condition::compile("claims.level > 3", "UTC").unwrap());
        assert_eq!(reason(&policy, &principal("main", None, &[], None), true), Reason::ConditionError);
        policy.when = Some(Condition::compile("false", "UTC").unwrap());
        assert_eq!(reason(&policy, &principal("main", None, &[], None), true), Reason::ConditionFalse);
        policy.when = None;
        assert_eq!(reason(&policy, &principal("main", None, &[], None), true), Reason::AcrInsufficient);
        assert_eq!(reason(&policy, &principal("main", Some("gold"), &[], None), true), Reason::AuthTimeMissing);
        assert_eq!(reason(&policy, &principal("main", Some("gold"), &[], Some(10.0)), true), Reason::Allowed);
    }

    #[test]
    fn a_challenge_names_the_level_the_age_or_both() {
        let policy = strict();
        let step_up = |acr: Option<&str>, age: Option<f64>| challenge(&policy, &principal("main", acr, &[], age), true);
        let asks = |acr: &[&str], max_age: Option<u64>| {
            Challenge::StepUp(Box::new(StepUp {
                acr_values: values(acr).unwrap(),
                amr_values: Box::default(),
                max_age: max_age.map(Duration::from_secs),
                guarded: true,
                ..StepUp::default()
            }))
        };
        assert_eq!(step_up(Some("silver"), Some(10.0)), asks(&["gold"], None));
        assert_eq!(step_up(Some("gold"), Some(331.0)), asks(&[], Some(300)));
        assert_eq!(step_up(None, None), asks(&["gold"], Some(300)));
        let plain = challenge(&policy, &principal("main", None, &[], None), false);
        let Challenge::StepUp(plain) = plain else { panic!("{plain:?}") };
        let wanted = Box::new(StepUp { acr_values: values(&["gold", "phr"]).unwrap(), ..StepUp::default() });
        assert_eq!(plain, wanted);
    }

    #[test]
    fn freshness_counts_the_leeway_at_both_ends() {
        let policy = strict();
        for (age, expected) in [
            (330.0, Reason::Allowed),
            (330.5, Reason::AuthenticationTooOld),
            (-30.0, Reason::Allowed),
            (-30.5, Reason::AuthTimeInFuture),
            (f64::NAN, Reason::AuthTimeMissing),
            (f64::INFINITY, Reason::AuthTimeMissing),
        ] {
            assert_eq!(reason(&policy, &principal("main", Some("gold"), &[], Some(age)), true), expected, "{age}");
        }
    }

    #[test]
    fn a_route_that_left_the_guard_keeps_its_own_requirement() {
        let policy = AccessPolicy { deletion: None, ..strict() };
        assert_eq!(reason(&policy, &principal("main", Some("phr"), &[], None), true), Reason::Allowed);
    }

    fn any_credential() -> impl Strategy<Value = Credential> {
        let acr = prop::option::of(prop::sample::select(vec!["gold", "silver", "phr"]));
        let amr = prop::collection::vec(prop::sample::select(vec!["mfa", "pwd", "MFA"]), 0..3);
        let valid = (prop::sample::select(vec!["main", "other"]), acr, amr, prop::option::of(-100.0..1000.0f64))
            .prop_map(|(issuer, acr, amr, age)| principal(issuer, acr, &amr, age));
        prop_oneof![
            Just(Credential::Absent),
            Just(Credential::Invalid(Reason::TokenExpired)),
            Just(Credential::Unavailable { reason: Reason::KeysUnavailable, retry_after_secs: 1 }),
            valid,
        ]
    }

    fn any_requirement() -> impl Strategy<Value = Requirement> {
        (prop::bool::ANY, prop::bool::ANY, prop::option::of(0u64..600)).prop_map(|(acr, amr, max_age)| Requirement {
            acr: acr.then(|| values(&["gold", "phr"]).unwrap()),
            amr: amr.then(|| values(&["mfa"]).unwrap()),
            max_age: max_age.map(Duration::from_secs),
            ..Requirement::default()
        })
    }

    /// The same, with all that only the authority gives.
    fn any_requirement_here() -> impl Strategy<Value = Requirement> {
        let factors = prop::sample::subsequence(Factor::ALL.to_vec(), 1..4);
        let rule = (prop::option::of(factors), prop::bool::ANY, 0u8..4).prop_map(
            |(any_of, phishing_resistant, categories)| FactorRule {
                any_of: any_of.map(|list| list.into_iter().collect()),
                phishing_resistant,
                categories,
            },
        );
        let name = prop::option::of(prop::sample::select(vec!["one", "two"]));
        (any_requirement(), prop::option::of(rule), name, prop::bool::ANY).prop_map(
            |(requirement, factors, name, bind)| Requirement {
                factors,
                level: name.map(Into::into),
                bind,
                ..requirement
            },
        )
    }

    fn any_second_factor() -> impl Strategy<Value = Arc<SecondFactor>> {
        let acr = prop::option::of(prop::sample::select(vec!["gold", "silver"]));
        let amr = prop::collection::vec(prop::sample::select(vec!["mfa", "otp"]), 0..3);
        let factors = prop::sample::subsequence(Factor::ALL.to_vec(), 0..3);
        let covers =
            (0..3u8, prop::sample::select(vec!["one", "two"]), prop::bool::ANY).prop_map(|(kind, level, bound)| {
                match kind {
                    0 => Covers::Level(level.into()),
                    1 => Covers::Request,
                    _ => Covers::Grant { level: level.into(), bound },
                }
            });
        (acr, amr, factors, covers, prop::option::of(-10.0..700.0f64), prop::bool::ANY).prop_map(
            |(acr, amr, factors, covers, age, may_delete)| {
                let factors: Factors = factors.into_iter().collect();
                Arc::new(SecondFactor {
                    assurance: Assurance {
                        acr: acr.map(Into::into),
                        amr: amr.iter().map(|value| Arc::from(*value)).collect(),
                        auth_time: age.map(|age| NOW_SECS as f64 - age),
                        factors,
                        ..Assurance::default()
                    },
                    factors,
                    categories: factors.iter().map(Factor::category).collect(),
                    covers,
                    may_delete,
                })
            },
        )
    }

    fn any_second_factors() -> impl Strategy<Value = Vec<Arc<SecondFactor>>> {
        prop::collection::vec(any_second_factor(), 0..3)
    }

    /// A second factor that is worth everything, for what it covers.
    fn best(covers: Covers) -> Arc<SecondFactor> {
        let factors = Factors::NONE.with(Factor::Passkey);
        Arc::new(SecondFactor {
            assurance: Assurance {
                acr: Some("gold".into()),
                amr: Box::new(["mfa".into()]),
                auth_time: Some(NOW_SECS as f64 - 10.0),
                factors,
                ..Assurance::default()
            },
            factors,
            categories: [Category::Possession, Category::Inherence].into_iter().collect(),
            covers,
            may_delete: true,
        })
    }

    fn judge(policy: &AccessPolicy, second_factors: &[Arc<SecondFactor>], guarded: bool) -> Reason {
        let credential = principal("main", None, &["pwd"], None);
        match decide(policy, &facts(&credential, second_factors, guarded)) {
            Decision::Allow(permit) => {
                let rests_on = permit.second_factors();
                assert!(rests_on.len() == 1 && second_factors.iter().any(|one| Arc::ptr_eq(one, &rests_on[0])));
                Reason::Allowed
            }
            Decision::Deny(denial) => denial.reason,
        }
    }

    /// The strict policy with names for its levels.
    fn named() -> AccessPolicy {
        let of = |requirement: Option<Requirement>, name: &str| {
            requirement.map(|requirement| Requirement { level: Some(name.into()), ..requirement })
        };
        let strict = strict();
        AccessPolicy {
            assurance: of(strict.assurance, "strong"),
            deletion: of(strict.deletion, "delete+strong"),
            ..strict
        }
    }

    #[test]
    fn each_way_of_stepping_up_is_good_for_what_it_covers_and_for_nothing_else() {
        use Reason::{AcrInsufficient as Missing, Allowed, GrantMissing};
        let grant = |level: &str, bound| Covers::Grant { level: level.into(), bound };
        let mut bound = named();
        bound.deletion = bound.deletion.map(|requirement| Requirement { bind: true, ..requirement });
        for (covers, plain, guarded, guarded_bound) in [
            (Covers::Level("strong".into()), Allowed, Missing, Missing),
            (Covers::Level("delete+strong".into()), Missing, Missing, Missing),
            (Covers::Level("other".into()), Missing, Missing, Missing),
            (Covers::Request, Allowed, Allowed, GrantMissing),
            (grant("strong", false), Allowed, Missing, Missing),
            (grant("delete+strong", false), Missing, Allowed, GrantMissing),
            (grant("delete+strong", true), Missing, Allowed, Allowed),
            (grant("other", true), Missing, Missing, Missing),
        ] {
            let second = [best(covers.clone())];
            let found = [judge(&named(), &second, false), judge(&named(), &second, true), judge(&bound, &second, true)];
            assert_eq!(found, [plain, guarded, guarded_bound], "{covers:?}");
        }
    }

    #[test]
    fn a_token_that_proves_all_by_itself_needs_no_second_factor_but_where_a_grant_must_be_bound() {
        let mut policy = named();
        let gold = principal("main", Some("gold"), &[], Some(10.0));
        let second = [best(Covers::Request)];
        let Decision::Allow(permit) = decide(&policy, &facts(&gold, &second, true)) else { panic!("refused") };
        assert!(permit.second_factors().is_empty());
        policy.deletion = policy.deletion.map(|requirement| Requirement { bind: true, ..requirement });
        assert_eq!(reason(&policy, &gold, true), Reason::GrantMissing);
        let Challenge::StepUp(asked) = challenge(&policy, &gold, true) else { panic!("no step-up") };
        assert!(asked.grant && asked.guarded && asked.acr_values.is_empty() && asked.max_age.is_none());
        assert_eq!(asked.level.as_deref(), Some("delete+strong"));
    }

    #[test]
    fn a_factor_that_is_too_new_deletes_nothing_and_does_all_else() {
        let young = Arc::new(SecondFactor { may_delete: false, ..SecondFactor::clone(&best(Covers::Request)) });
        let young = [young];
        assert_eq!(judge(&named(), &young, true), Reason::FactorTooNew);
        assert_eq!(judge(&named(), &young, false), Reason::Allowed);
        // The same in a token of our own, which says so; a second factor that is not new makes up for it.
        let Credential::Valid(gold) = principal("main", Some("gold"), &["pwd", "otp"], Some(1.0)) else {
            panic!("none")
        };
        let assurance = Assurance { on_probation: true, ..gold.assurance.clone() };
        let token = Credential::Valid(Arc::new(Principal { assurance, ..Principal::clone(&gold) }));
        assert_eq!(reason(&named(), &token, true), Reason::FactorTooNew);
        assert_eq!(reason(&named(), &token, false), Reason::Allowed);
        assert!(matches!(decide(&named(), &facts(&token, &[best(Covers::Request)], true)), Decision::Allow(_)));
    }

    #[test]
    fn a_token_lends_its_factors_to_a_second_one_while_it_is_fresh_and_to_no_deletion_on_probation() {
        let passkey = Factors::NONE.with(Factor::Passkey);
        let rule = FactorRule { any_of: Some(passkey), ..FactorRule::default() };
        let wanted = |requirement: Option<Requirement>| {
            requirement.map(|requirement| Requirement {
                factors: Some(rule),
                max_age: Some(Duration::from_secs(300)),
                ..requirement
            })
        };
        let policy =
            AccessPolicy { assurance: wanted(named().assurance), deletion: wanted(named().deletion), ..named() };
        let app = Factors::NONE.with(Factor::Totp);
        let second = [Arc::new(SecondFactor { factors: app, ..SecondFactor::clone(&best(Covers::Request)) })];
        let judged = |age: f64, on_probation: bool, guarded: bool| {
            let Credential::Valid(principal) = principal("main", None, &["pwd"], Some(age)) else { panic!("none") };
            let assurance = Assurance { factors: passkey, on_probation, ..principal.assurance.clone() };
            let token = Credential::Valid(Arc::new(Principal { assurance, ..Principal::clone(&principal) }));
            match decide(&policy, &facts(&token, &second, guarded)) {
                Decision::Allow(_) => Reason::Allowed,
                Decision::Deny(denial) => denial.reason,
            }
        };
        for (age, on_probation, plain, guarded) in [
            (10.0, false, Reason::Allowed, Reason::Allowed),
            (400.0, false, Reason::FactorInsufficient, Reason::FactorInsufficient),
            (10.0, true, Reason::Allowed, Reason::FactorInsufficient),
        ] {
            let found = [judged(age, on_probation, false), judged(age, on_probation, true)];
            assert_eq!(found, [plain, guarded], "{age} {on_probation}");
        }
    }

    #[test]
    fn factors_are_those_of_our_own_authority_whichever_way_they_were_shown() {
        let rule =
            FactorRule { any_of: Some(Factors::NONE.with(Factor::Passkey)), phishing_resistant: true, categories: 2 };
        let wanted = Requirement { factors: Some(rule), level: Some("keys".into()), ..Requirement::default() };
        let policy = AccessPolicy { assurance: Some(wanted), ..named() };
        // A provider's `amr` is not ours.
        assert_eq!(
            reason(&policy, &principal("main", Some("gold"), &["mfa", "hwk"], Some(1.0)), false),
            Reason::FactorInsufficient
        );
        assert_eq!(judge(&policy, &[best(Covers::Request)], false), Reason::Allowed);
        let code = SecondFactor {
            factors: Factors::NONE.with(Factor::Totp),
            categories: [Category::Possession, Category::Knowledge].into_iter().collect(),
            ..SecondFactor::clone(&best(Covers::Request))
        };
        assert_eq!(judge(&policy, &[Arc::new(code)], false), Reason::FactorInsufficient);
        let alone = SecondFactor {
            categories: Categories::NONE.with(Category::Possession),
            ..SecondFactor::clone(&best(Covers::Request))
        };
        assert_eq!(judge(&policy, &[Arc::new(alone)], false), Reason::FactorInsufficient);
        // The authority's own token, that says which factors were shown.
        let own = |amr: &[&str]| {
            let Credential::Valid(principal) = principal("main", None, amr, None) else { panic!("no principal") };
            let factors = Factors::NONE.with(Factor::Passkey);
            let assurance = Assurance { factors, ..principal.assurance.clone() };
            Credential::Valid(Arc::new(Principal { assurance, ..Principal::clone(&principal) }))
        };
        assert_eq!(reason(&policy, &own(&["pop", "mfa"]), false), Reason::Allowed, "it verified the person");
        assert_eq!(reason(&policy, &own(&["pop"]), false), Reason::FactorInsufficient);
    }

    #[test]
    fn an_elevation_is_as_old_as_its_proof_and_our_clock_has_no_leeway() {
        let mut policy = named();
        policy.assurance =
            policy.assurance.map(|wanted| Requirement { max_age: Some(Duration::from_secs(60)), ..wanted });
        let aged = |age: f64| {
            let best = best(Covers::Level("strong".into()));
            let assurance = Assurance { auth_time: Some(NOW_SECS as f64 - age), ..best.assurance.clone() };
            [Arc::new(SecondFactor { assurance, ..SecondFactor::clone(&best) })]
        };
        for (age, expected) in [
            (60.0, Reason::Allowed),
            (60.5, Reason::AuthenticationTooOld),
            (0.0, Reason::Allowed),
            (-0.5, Reason::AuthTimeInFuture),
        ] {
            assert_eq!(judge(&policy, &aged(age), false), expected, "{age}");
        }
    }

    #[test]
    fn a_proof_is_weighed_whole() {
        let policy = AccessPolicy { deletion: None, assurance: named().deletion, ..named() };
        let weak = SecondFactor {
            assurance: Assurance { acr: None, ..best(Covers::Request).assurance.clone() },
            ..SecondFactor::clone(&best(Covers::Request))
        };
        // The level of the token, and the moment of the code, are not one proof.
        let gold = principal("main", Some("gold"), &[], Some(9999.0));
        let second = [Arc::new(weak)];
        let Decision::Deny(denial) = decide(&policy, &facts(&gold, &second, false)) else { panic!("allowed") };
        assert_eq!(denial.reason, Reason::AuthenticationTooOld);
    }

    #[test]
    fn explain_says_that_a_second_factor_stands_for_the_token() {
        let credential = principal("main", None, &[], None);
        let second = [best(Covers::Request)];
        let held: Vec<_> =
            explain(&named(), &facts(&credential, &second, true)).into_iter().map(|check| check.held).collect();
        assert_eq!(held[3..], [Held::BySecondFactor, Held::BySecondFactor, Held::NotAsked, Held::NotAsked]);
    }

    fn machine(credential: Credential) -> Credential {
        let Credential::Valid(principal) = credential else { return credential };
        Credential::Valid(Arc::new(Principal { kind: Kind::Machine, ..Principal::clone(&principal) }))
    }

    #[test]
    fn a_machines_proof_stands_in_for_level_and_freshness_and_for_nothing_else() {
        let dpop = Some(Possession::Dpop(Algorithm::ES256));
        let proof = MachineProof { certificate: CertificateProof::Refused, dpop: Algorithm::ES256.into() };
        let mut policy = strict();
        policy.deletion = policy.deletion.map(|r| Requirement { machines: Some(proof), ..r });
        let judge = |policy: &AccessPolicy, credential: &Credential, possession, guarded| match decide(
            policy,
            &Facts { credential, possession, second_factors: &[], guarded, planned: None, input: input() },
        ) {
            Decision::Allow(_) => Reason::Allowed,
            Decision::Deny(denial) => denial.reason,
        };
        let robot = machine(principal("main", None, &[], None));
        let person = principal("main", None, &[], None);
        assert_eq!(judge(&policy, &robot, dpop, true), Reason::Allowed);
        assert_eq!(judge(&policy, &robot, None, true), Reason::AcrInsufficient);
        assert_eq!(judge(&policy, &robot, Some(Possession::Certificate), true), Reason::AcrInsufficient);
        assert_eq!(judge(&policy, &robot, Some(Possession::Dpop(Algorithm::RS256)), true), Reason::AcrInsufficient);
        assert_eq!(judge(&policy, &person, dpop, true), Reason::AcrInsufficient, "a person profits");
        // The route's own level does not allow it, whatever the guard does.
        assert_eq!(judge(&policy, &robot, dpop, false), Reason::AcrInsufficient);
        assert_eq!(
            judge(&policy, &machine(principal("other", None, &[], None)), dpop, true),
            Reason::TokenIssuerNotAccepted
        );
        policy.scopes = Box::new(["items:write".into()]);
        assert_eq!(judge(&policy, &robot, dpop, true), Reason::ScopeMissing);
        policy.scopes = Box::default();
        policy.when = Some(Condition::compile("false", "UTC").unwrap());
        assert_eq!(judge(&policy, &robot, dpop, true), Reason::ConditionFalse);
    }

    #[test]
    fn explain_says_what_stands_in_for_what() {
        let mut policy = strict();
        let proof = MachineProof { certificate: CertificateProof::Any, dpop: Algorithms::NONE };
        policy.deletion = policy.deletion.map(|r| Requirement { machines: Some(proof), ..r });
        let credential = machine(principal("main", None, &[], None));
        let facts = Facts { possession: Some(Possession::Certificate), ..facts(&credential, &[], true) };
        let held: Vec<_> = explain(&policy, &facts).into_iter().map(|check| (check.name, check.held)).collect();
        assert_eq!(
            held,
            [
                ("token", Held::Yes),
                ("scopes", Held::Yes),
                ("when", Held::Yes),
                ("level", Held::Instead),
                ("freshness", Held::Instead),
                ("factors", Held::NotAsked),
                ("grant", Held::NotAsked),
            ]
        );
    }

    proptest! {
        #[test]
        fn a_person_is_judged_as_if_no_machine_were_ever_spared(
            credential in any_credential(),
            requirement in any_requirement(),
            guarded in prop::bool::ANY,
            possession in prop::option::of(prop::sample::select(vec![
                Possession::Certificate,
                Possession::Dpop(Algorithm::ES256),
                Possession::CertificateAndDpop(Algorithm::EdDSA),
            ])),
        ) {
            let every = MachineProof { certificate: CertificateProof::Any, dpop: Algorithm::ALL.into_iter().collect() };
            let with = |machines: Option<MachineProof>| {
                let requirement = Some(Requirement { machines, ..requirement.clone() });
                AccessPolicy { assurance: requirement.clone(), deletion: requirement, ..strict() }
            };
            let judge = |policy: &AccessPolicy, possession| {
                match decide(policy, &Facts { credential: &credential, possession, second_factors: &[], guarded, planned: None, input: input() }) {
                    Decision::Allow(_) => None,
                    Decision::Deny(denial) => Some(denial),
                }
            };
            prop_assert_eq!(judge(&with(Some(every)), possession), judge(&with(None), None));
        }

        #[test]
        fn nothing_guarded_passes_without_a_valid_token_and_its_proof(
            credential in any_credential(),
            deletion in any_requirement(),
            public in prop::bool::ANY,
        ) {
            let issuers: Box<[IssuerName]> = if public { Box::default() } else { Box::new(["main".into()]) };
            let policy = AccessPolicy { issuers, deletion: Some(deletion.clone()), ..AccessPolicy::default() };
            if reason(&policy, &credential, true) == Reason::Allowed {
                let Credential::Valid(principal) = &credential else { panic!("no token") };
                let has = |wanted: &Option<Box<[Arc<str>]>>, given: &[Arc<str>]| {
                    wanted.as_ref().is_none_or(|wanted| given.iter().any(|value| wanted.contains(value)))
                };
                prop_assert!(has(&deletion.acr, principal.assurance.acr.as_slice()));
                prop_assert!(has(&deletion.amr, &principal.assurance.amr));
                if let Some(max_age) = deletion.max_age {
                    let age = NOW_SECS as f64 - principal.assurance.auth_time.unwrap();
                    prop_assert!((-30.0..=max_age.as_secs_f64() + 30.0).contains(&age));
                }
            }
        }

        #[test]
        fn a_second_factor_makes_up_for_nothing_that_comes_before_the_proof(
            credential in any_credential(),
            second_factors in any_second_factors(),
            assurance in prop::option::of(any_requirement_here()),
            deletion in prop::option::of(any_requirement_here()),
            scope in prop::bool::ANY,
            condition in prop::sample::select(vec!["true", "false", "claims.none == 1"]),
            guarded in prop::bool::ANY,
        ) {
            let scopes: Box<[Arc<str>]> = if scope { Box::new(["items:write".into()]) } else { Box::default() };
            let when = Some(Condition::compile(condition, "UTC").unwrap());
            let policy = AccessPolicy { scopes, when, assurance, deletion, ..strict() };
            let without = match decide(&policy, &facts(&credential, &[], guarded)) {
                Decision::Allow(_) => Ok(()),
                Decision::Deny(denial) => Err(denial),
            };
            let with = match decide(&policy, &facts(&credential, &second_factors, guarded)) {
                Decision::Allow(_) => Ok(()),
                Decision::Deny(denial) => Err(denial),
            };
            match without {
                // Nor does one take away what the token proves by itself.
                Ok(()) => prop_assert_eq!(with, Ok(())),
                Err(denial) if !matches!(denial.challenge, Challenge::StepUp(_)) => prop_assert_eq!(with, Err(denial)),
                Err(_) => {}
            }
        }

        #[test]
        fn what_a_permit_rests_on_covers_the_request_and_meets_all_that_is_asked(
            credential in any_credential(),
            second_factors in any_second_factors(),
            assurance in prop::option::of(any_requirement_here()),
            deletion in prop::option::of(any_requirement_here()),
            guarded in prop::bool::ANY,
        ) {
            let policy = AccessPolicy { assurance: assurance.clone(), deletion: deletion.clone(), ..strict() };
            if let Decision::Allow(permit) = decide(&policy, &facts(&credential, &second_factors, guarded)) {
                let is_guarded = guarded && deletion.is_some();
                let wanted = if is_guarded { deletion } else { assurance };
                if wanted.as_ref().is_some_and(|wanted| wanted.bind) {
                    prop_assert!(
                        permit.second_factors().iter().any(|s| matches!(s.covers, Covers::Grant { bound: true, .. })),
                        "no bound grant"
                    );
                }
                for second in permit.second_factors() {
                    let wanted = wanted.as_ref().unwrap();
                    match &second.covers {
                        Covers::Level(level) => prop_assert!(!is_guarded && wanted.level.as_ref() == Some(level)),
                        Covers::Request => prop_assert!(!wanted.bind),
                        Covers::Grant { level, bound } => {
                            prop_assert!(wanted.level.as_ref() == Some(level) && (*bound || !wanted.bind));
                        }
                    }
                    prop_assert!(!is_guarded || second.may_delete);
                    let has = |list: &Option<Box<[Arc<str>]>>, given: &[Arc<str>]| {
                        list.as_ref().is_none_or(|list| given.iter().any(|value| list.contains(value)))
                    };
                    prop_assert!(has(&wanted.acr, second.assurance.acr.as_slice()));
                    // What was shown before counts beside it as long as it is fresh, and may delete where something is deleted.
                    let Credential::Valid(principal) = &credential else { panic!("no token") };
                    let first = &principal.assurance;
                    let is_fresh = wanted.max_age.is_none_or(|max_age| {
                        let age = first.auth_time.map(|time| NOW_SECS as f64 - time);
                        age.is_some_and(|age| (-30.0..=max_age.as_secs_f64() + 30.0).contains(&age))
                    });
                    let is_lent = is_fresh && !(is_guarded && first.on_probation);
                    prop_assert!(has(&wanted.amr, &second.assurance.amr) || (is_lent && has(&wanted.amr, &first.amr)));
                    if let Some(max_age) = wanted.max_age {
                        let age = NOW_SECS as f64 - second.assurance.auth_time.unwrap();
                        prop_assert!((0.0..=max_age.as_secs_f64()).contains(&age));
                    }
                    if let Some(rule) = wanted.factors {
                        prop_assert!(rule.is_met(second.factors, second.categories));
                    }
                }
            }
        }

        #[test]
        fn explain_agrees_with_decide(
            credential in any_credential(),
            second_factors in any_second_factors(),
            assurance in prop::option::of(any_requirement_here()),
            deletion in prop::option::of(any_requirement_here()),
            guarded in prop::bool::ANY,
        ) {
            let policy = AccessPolicy { assurance, deletion, ..strict() };
            let facts = facts(&credential, &second_factors, guarded);
            let first = explain(&policy, &facts).into_iter().find_map(|check| match check.held {
                Held::No(denial) => Some(denial),
                Held::Yes | Held::BySecondFactor | Held::Instead | Held::NotAsked => None,
            });
            match decide(&policy, &facts) {
                Decision::Allow(_) => prop_assert_eq!(first, None),
                Decision::Deny(denial) => prop_assert_eq!(first, Some(denial)),
            }
        }
    }
}
