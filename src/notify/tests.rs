//! The room as a whole, against a real mail server (aiosmtpd), a real receiver of webhooks whose signatures the library of
//! Standard Webhooks verifies, and a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test states what it expects in the plainest way"
)]

mod channels;
mod crash;
mod outbox;
mod receiver;
mod server;

use std::{path::Path, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use self::{
    receiver::{Mood, Receiver},
    server::{MailServer, mail_tool},
};
use super::{
    Channel, Channels, Delivery, EnqueueFault, Loss, Message, NotifyObserver, Outbox, Unobserved, message::Waiting,
    new_id,
};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Materials},
    store::{Batch, Store, StoreFault, Table},
};

/// The secret that messages are signed with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ADDRESS: &str = "ann.private@example.com";
const CODE: &str = "493827";

/// A certificate authority with one server on this machine.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("server.pem"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn server_config(&self) -> rustls::ServerConfig {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
        let chain = vec![CertificateDer::from_pem_file(self.path("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }
}

struct Disk;

impl Materials for Disk {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// A configuration with this section.
fn configured(notify: &str) -> Config {
    let text = format!(
        "notify:\n{notify}\nupstreams: {{api: {{targets: [http://127.0.0.1:1]}}}}\nroutes: [{{path: /**, upstream: api, auth: none}}]\n"
    );
    let input =
        config::Input { file: Path::new("gateway.yaml"), text: &text, base: Path::new("/nowhere"), env: &|_| None };
    config::load(&input).unwrap_or_else(|problems| panic!("{}", problems.render(config::Color::Never))).config
}

fn channels(notify: &str) -> Channels {
    let config = configured(notify);
    Channels::compile(config.notify.as_deref(), &Disk, &crate::client::MachineRoots::nobody()).unwrap()
}

fn message(channel: Channel, seconds: u64) -> Message {
    Message {
        id: new_id().unwrap(),
        channel,
        kind: "code".into(),
        subject: "Your code".into(),
        text: format!("It is {CODE}.\n.\nRCPT TO:<eve@example.com>\nGrüße\n"),
        data: json!({"to": ADDRESS, "code": CODE}),
        expires_at: SystemClock.now().unix_secs() + seconds,
    }
}

fn to_mail(seconds: u64) -> Message {
    message(Channel::Mail { to: ADDRESS.into() }, seconds)
}

fn to_hook(name: &str, seconds: u64) -> Message {
    message(Channel::Webhook { name: name.into() }, seconds)
}

/// Asks again and again until there is an answer.
async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(found) = probe() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}
