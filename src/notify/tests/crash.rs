//! The process is killed at random instants while it commits messages and delivers them: none that was acknowledged is lost.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use super::*;
use crate::store::{MasterKey, SealingKeys};

/// How often the process is killed.
const ROUNDS: usize = 12;
/// What tells the child where its store is, and where its receiver.
const FOLDER: &str = "STEPGATE_TEST_OUTBOX_FOLDER";
const PORT: &str = "STEPGATE_TEST_OUTBOX_PORT";

fn outbox_in(folder: &Path, port: &str) -> (Arc<Outbox>, Arc<Store>) {
    let keys = SealingKeys::new(MasterKey::new(&(0..32).collect::<Vec<u8>>()).unwrap(), vec![]);
    let store = Arc::new(Store::in_file(&folder.join("stepgate.db"), keys).unwrap());
    let hook = format!("  webhooks: {{notify: {{url: \"http://127.0.0.1:{port}/\", secret: \"{SECRET}\"}}}}");
    let outbox = Outbox::new(Arc::clone(&store), channels(&hook), Arc::new(SystemClock), Arc::new(Unobserved));
    (outbox, store)
}

/// The process that is killed. Run by itself, as one test of many, it does nothing.
#[tokio::test]
async fn the_process_that_is_killed() {
    let (Some(folder), Ok(port)) = (std::env::var_os(FOLDER), std::env::var(PORT)) else { return };
    let (outbox, store) = outbox_in(Path::new(&folder), &port);
    tokio::spawn(Arc::clone(&outbox).run());
    loop {
        let now = SystemClock.now();
        let message = to_hook("notify", 300);
        let id = message.id.clone();
        // The change that is told of, in the same commit.
        let batch = Batch::new().insert(Table::Sent, &id, &1, None);
        let batch = outbox.enqueue(batch, message, now).unwrap();
        store.commit(batch, now).await.unwrap();
        outbox.poke();
        println!("acknowledged {id}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn no_message_that_was_acknowledged_is_lost_by_kill_9_and_repetitions_are_told_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "notify::tests::crash::the_process_that_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(PORT, receiver.port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = tokio::task::spawn_blocking(move || {
            let ids = lines.map_while(Result::ok).filter_map(|line| {
                line.split_once("acknowledged ").map(|(_, id)| id.to_owned()).filter(|id| id.len() == 36)
            });
            ids.collect::<Vec<String>>()
        });
        let known = receiver.calls().len();
        eventually("a delivery", || (receiver.calls().len() > known).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(17 * round as u64)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.await.unwrap());
    }
    assert!(acknowledged.len() > ROUNDS, "{}", acknowledged.len());

    let (outbox, store) = outbox_in(folder.path(), &receiver.port.to_string());
    let running = tokio::spawn(Arc::clone(&outbox).run());
    let mut bodies: HashMap<String, String> = HashMap::new();
    loop {
        let rows = store.page::<Value>(Table::Outbox, "", None, 1, SystemClock.now()).await.unwrap();
        if rows.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.abort();
    for call in receiver.calls() {
        let id = call.header("webhook-id").to_owned();
        let told = store.get::<u32>(Table::Sent, &id, SystemClock.now()).await.unwrap();
        assert!(told.is_some(), "told of a change that was not made");
        let first = bodies.entry(id).or_insert_with(|| call.body.clone());
        assert_eq!(*first, call.body);
    }
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !bodies.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), acknowledged.len());
}
