//! People with second factors, made by the authority's own code in a world's state before its gateway starts: what is tested is
//! what becomes of their proofs, however they came by them.

use std::{path::Path, sync::Arc};

use stepgate::{
    authority::{
        Answered, Authority, AuthorityMeans, Caller, End, Finished, GrantBinding, Purpose, Right, Target, Wanted, Way,
    },
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Input},
    identity::{Authenticator, Field, Presented, SourceServices, Unobserved, revocation::Revocations},
    policy::{Credential, Factor, Principal},
    runtime::DiskMaterials,
    state::{State, StateMeans},
};

use super::{World, remember_secret};

/// A world whose store is open.
pub struct People {
    runtime: tokio::runtime::Runtime,
    authority: Authority,
    authenticator: Authenticator,
}

/// What somebody has to prove who they are.
pub struct Codes {
    /// The app's code of the next half minute, which has not been used.
    pub app: String,
    /// Codes for recovery, each good once.
    pub recovery: Vec<String>,
}

impl People {
    /// Opens the store of a configuration that is written already.
    pub fn of(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config(world.folder());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let roots = stepgate::client::MachineRoots::nobody();
        let services = SourceServices {
            handle: runtime.handle().clone(),
            roots: roots.clone(),
            clock: clock.clone(),
            observer: Arc::new(Unobserved),
            revocations: Arc::new(Revocations::default()),
            authority_keys: Default::default(),
        };
        let authenticator = Authenticator::compile(&config, &DiskMaterials, &services, None).unwrap();
        std::fs::create_dir_all(&config.server.state_dir).unwrap();
        let means = StateMeans {
            handle: runtime.handle(),
            clock: &clock,
            state_dir: &config.server.state_dir,
            roots: &roots,
            observer: &(Arc::new(stepgate::state::Unobserved) as _),
            deliveries: &(Arc::new(stepgate::notify::Unobserved) as _),
        };
        let state = State::open(&config, &DiskMaterials, &means, None).unwrap().unwrap();
        let means = AuthorityMeans {
            handle: runtime.handle(),
            clock: &clock,
            state: &state,
            observer: &(Arc::new(stepgate::authority::Unobserved) as _),
            ends: &(Arc::new(stepgate::authority::accounts::NoEnds) as _),
            published: &stepgate::jose::PublishedKeys::default(),
        };
        let authority = Authority::compile(&config, &DiskMaterials, &means, None).unwrap().unwrap();
        Self { runtime, authority, authenticator }
    }

    /// An operator's invitation to register.
    pub fn invite_account(&self) -> String {
        let accounts = self.authority.accounts().unwrap();
        let invited = accounts.invite_account("helpdesk", None, None, SystemClock.now());
        self.runtime.block_on(invited).unwrap().code
    }

    /// Enrols an app for the holder of a token, by an operator's invitation.
    pub fn enrol(&self, token: &str) -> Codes {
        let (caller, now) = (self.caller(token), SystemClock.now());
        self.runtime.block_on(async {
            let invitation = self.authority.invite(&caller.owner(), "helpdesk", None, now).await.unwrap();
            self.confirm(&caller, Right::Invitation(&invitation.code), now).await
        })
    }

    /// Enrols one by trust on first use, where the configuration has that.
    pub fn enrol_openly(&self, token: &str) -> Codes {
        let (caller, now) = (self.caller(token), SystemClock.now());
        self.runtime.block_on(self.confirm(&caller, Right::Nothing, now))
    }

    async fn confirm(&self, caller: &Caller, right: Right<'_>, now: Now) -> Codes {
        let wanted = Wanted { factor: Factor::Totp, label: "phone".to_owned(), address: None };
        let begun = self.authority.begin_enrolment(caller, wanted, right, way(), now).await.unwrap();
        let secret = base32(&begun.secret.unwrap());
        let step = now.unix_secs() / 30;
        let code = totp(&secret, step);
        let enrolled =
            self.authority.finish_enrolment(caller, &begun.id, Answered::Code(&code), way(), now).await.unwrap();
        let codes = Codes { app: totp(&secret, step + 1), recovery: enrolled.recovery_codes };
        codes.recovery.iter().for_each(|code| remember_secret(code));
        codes
    }

    /// Elevates the token for a level.
    pub fn elevate(&self, token: &str, level: &str, code: &str) {
        let (caller, now) = (self.caller(token), SystemClock.now());
        let purpose = Purpose::StepUp { level: level.to_owned() };
        self.runtime.block_on(async {
            let begun = self.authority.begin(&caller, purpose, None, way(), now).await.unwrap();
            let answered = Answered::Code(code);
            let finished = self.authority.finish(&caller, &begun.id, answered, End::Elevate, way(), now).await.unwrap();
            let Finished::Proved { elevated_until: Some(until), .. } = finished else { panic!("{finished:?}") };
            assert!(until > now.unix_secs());
        });
    }

    /// Makes a grant for a level; with a method, a target and a body for that request alone.
    pub fn grant(&self, token: &str, level: &str, code: &str, bound: Option<(&str, &str, &str)>) -> String {
        let (caller, now) = (self.caller(token), SystemClock.now());
        let purpose = Purpose::Grant { level: level.to_owned() };
        self.runtime.block_on(async {
            let begun = self.authority.begin(&caller, purpose, None, way(), now).await.unwrap();
            let answered = Answered::Code(code);
            let finished = self.authority.finish(&caller, &begun.id, answered, End::Nothing, way(), now).await.unwrap();
            let Finished::Proved { proof, .. } = finished else { panic!("{finished:?}") };
            let binding = bound.map(|(method, target, body)| GrantBinding {
                method: method.parse().unwrap(),
                target: Target::parse(target, "gateway.example").unwrap(),
                body: GrantBinding::digest(body.as_bytes()),
            });
            let granted = self.authority.grant(&caller, level, &proof, binding.as_ref(), way(), now).unwrap();
            remember_secret(&granted.token);
            granted.token
        })
    }

    fn caller(&self, token: &str) -> Caller {
        self.authority.caller(&self.principal(token)).unwrap()
    }

    /// Whom the gateway will take the holder of a token for.
    fn principal(&self, token: &str) -> Arc<Principal> {
        let field = format!("Bearer {token}");
        let presented = Presented {
            authorization: Field::One(field.as_bytes()),
            keys: &[],
            proof: Field::Absent,
            confidential: true,
            query: None,
            method: &http::Method::GET,
            scheme: "https",
            authority: "gate.example",
            path: "/",
            certificate: None,
            address: [127, 0, 0, 1].into(),
        };
        let accepted = self.authenticator.accepted(&[]);
        let judged = self.authenticator.authenticate(&presented, &accepted, SystemClock.now());
        match self.runtime.block_on(judged).credential {
            Credential::Valid(principal) => principal,
            other => panic!("{other:?}"),
        }
    }
}

fn config(folder: &Path) -> Config {
    let file = folder.join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let input = Input { file: &file, text: &text, base: folder, env: &|name| std::env::var(name).ok() };
    config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn way() -> Way<'static> {
    Way { client: [127, 0, 0, 1].into(), request_id: "test" }
}

/// RFC 6238 §4 with what apps take: SHA-1, thirty seconds, six digits.
/// The code of an authenticator app, by the secret as it is typed, so many half minutes from now.
pub fn app_code(secret: &str, ahead: u64) -> String {
    totp(&base32(secret), SystemClock.now().unix_secs() / 30 + ahead)
}

fn totp(secret: &[u8], step: u64) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn base32(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(u8::is_ascii_alphanumeric) {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a',
            digit => digit - b'2' + 26,
        };
        (bits, count) = (bits << 5 | u32::from(value), count + 5);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
