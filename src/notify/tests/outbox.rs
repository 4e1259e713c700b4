//! Messages from a commit to their delivery, over failures and restarts.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::*;

#[derive(Default)]
struct Counts(Mutex<Vec<String>>);

impl NotifyObserver for Counts {
    fn sent(&self, channel: &str) {
        self.0.lock().unwrap().push(format!("sent {channel}"));
    }
    fn retried(&self, channel: &str) {
        self.0.lock().unwrap().push(format!("retried {channel}"));
    }
    fn lost(&self, channel: &str, why: Loss) {
        self.0.lock().unwrap().push(format!("lost {channel} {}", why.name()));
    }
    fn waiting(&self, channel: &str, count: usize) {
        self.0.lock().unwrap().push(format!("waiting {channel} {count}"));
    }
}

impl Counts {
    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|said| *said == what).count()
    }
}

/// An outbox that runs until it is dropped, as a process does.
struct Running {
    outbox: Arc<Outbox>,
    store: Arc<Store>,
    counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn on(store: Arc<Store>, channels: Channels) -> Self {
        Self::at(Arc::new(SystemClock), store, channels)
    }

    fn at(clock: Arc<dyn Clock>, store: Arc<Store>, channels: Channels) -> Self {
        let counts = Arc::new(Counts::default());
        let outbox = Outbox::new(Arc::clone(&store), channels, clock, counts.clone());
        let task = tokio::spawn(Arc::clone(&outbox).run());
        Self { outbox, store, counts, task }
    }

    async fn send(&self, message: Message) {
        let now = SystemClock.now();
        let batch = self.outbox.enqueue(Batch::new(), message, now).unwrap();
        self.store.commit(batch, now).await.unwrap();
        self.outbox.poke();
    }

    async fn rows(&self) -> usize {
        self.store.page::<Value>(Table::Outbox, "", None, 100, SystemClock.now()).await.unwrap().len()
    }

    async fn says(&self, what: &str, times: usize) {
        eventually(what, || (self.counts.count(what) >= times).then_some(())).await;
    }

    async fn is_empty(&self) {
        for _ in 0..500 {
            if self.rows().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("rows stay in the outbox");
    }
}

fn hook_at(receiver: &Receiver) -> Channels {
    channels(&format!(
        "  webhooks: {{notify: {{url: \"http://127.0.0.1:{}/\", secret: \"{SECRET}\", timeout: 500ms}}}}",
        receiver.port
    ))
}

#[tokio::test]
async fn a_message_is_delivered_at_once_and_its_row_goes() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    let start = std::time::Instant::now();
    running.send(to_hook("notify", 300)).await;
    receiver.gets(1).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    running.is_empty().await;
    running.says("sent notify", 1).await;
    running.says("waiting notify 0", 1).await;
}

#[tokio::test]
async fn a_message_without_a_poke_is_delivered_all_the_same() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    let now = SystemClock.now();
    let batch = running.outbox.enqueue(Batch::new(), to_hook("notify", 300), now).unwrap();
    running.store.commit(batch, now).await.unwrap();
    receiver.gets(1).await;
}

#[tokio::test]
async fn a_commit_that_fails_takes_its_message_with_it() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    let now = SystemClock.now();
    running.store.commit(Batch::new().insert(Table::Sent, "once", &1, None), now).await.unwrap();
    let batch = Batch::new().insert(Table::Sent, "once", &2, None);
    let batch = running.outbox.enqueue(batch, to_hook("notify", 300), now).unwrap();
    assert_eq!(running.store.commit(batch, now).await, Err(StoreFault::Conflict));
    running.outbox.poke();
    // The one after it is delivered, and nothing else.
    let message = to_hook("notify", 300);
    running.send(message.clone()).await;
    running.is_empty().await;
    let ids: Vec<Value> = receiver.gets(1).await.iter().map(|call| call.json()["id"].clone()).collect();
    assert_eq!(ids, [json!(message.id)]);
}

#[tokio::test]
async fn a_failure_is_tried_again_with_the_same_number_until_it_is_delivered() {
    let receiver = Receiver::start(Mood::Status(500), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    running.send(to_hook("notify", 300)).await;
    running.says("retried notify", 1).await;
    assert_eq!(running.rows().await, 1);
    receiver.answer_with(Mood::Status(200));
    running.says("sent notify", 1).await;
    running.is_empty().await;
    let calls = receiver.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].body, calls[1].body);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
    assert_eq!(calls[1].verified(SECRET), "good");
}

#[tokio::test]
async fn mail_that_is_put_off_arrives_and_mail_that_is_refused_is_lost_at_once() {
    let certificates = Certificates::new();
    let server = MailServer::start("defer", &certificates);
    let mail = |server: &MailServer| {
        channels(&format!(
            "  mail: {{server: \"smtp://127.0.0.1:{}\", from: gate@example.com, danger_cleartext: true}}",
            server.port
        ))
    };
    let running = Running::on(Arc::new(Store::for_tests()), mail(&server));
    running.send(to_mail(60)).await;
    assert_eq!(server.takes(1).await.len(), 1);
    running.is_empty().await;
    assert_eq!((running.counts.count("retried mail"), running.counts.count("sent mail")), (2, 1));

    let server = MailServer::start("refuse", &certificates);
    running.outbox.replace(mail(&server));
    running.send(to_mail(60)).await;
    running.says("lost mail refused", 1).await;
    running.is_empty().await;
}

#[tokio::test]
async fn what_waits_survives_the_end_of_the_process() {
    let receiver = Receiver::start(Mood::Status(500), None).await;
    let store = Arc::new(Store::for_tests());
    let first = Running::on(Arc::clone(&store), hook_at(&receiver));
    let message = to_hook("notify", 300);
    first.send(message.clone()).await;
    first.says("retried notify", 1).await;
    drop(first);
    receiver.answer_with(Mood::Status(200));
    let second = Running::on(store, hook_at(&receiver));
    second.says("sent notify", 1).await;
    second.is_empty().await;
    assert_eq!(receiver.calls().last().unwrap().header("webhook-id"), message.id);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_keeps_no_other_from_being_delivered() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let store = Arc::new(Store::for_tests());
    let now = SystemClock.now();
    // Written by a process that ended at once; what it wrote first was damaged since, and so was what it wrote last.
    let before = Outbox::new(Arc::clone(&store), hook_at(&receiver), Arc::new(SystemClock), Arc::new(Unobserved));
    let batch = Batch::new().insert(Table::Outbox, "!", &"no message", None).insert(Table::Outbox, "~", &7, None);
    let batch = before.enqueue(batch, to_hook("notify", 300), now).unwrap();
    store.commit(batch, now).await.unwrap();
    drop(before);
    let running = Running::on(store, hook_at(&receiver));
    running.says("sent notify", 1).await;
}

#[tokio::test]
async fn a_crash_between_a_delivery_and_its_mark_makes_a_repetition_with_the_same_number() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let (store, breaker) = Store::breakable_for_tests();
    let store = Arc::new(store);
    // The receiver has it, and from then on nothing can be written: the process ends before it could mark that.
    receiver.answer_with(Mood::Hang);
    let first = Running::on(Arc::clone(&store), hook_at(&receiver));
    first.send(to_hook("notify", 300)).await;
    receiver.gets(1).await;
    breaker.break_it();
    drop(first);
    breaker.mend();
    receiver.answer_with(Mood::Status(200));
    let second = Running::on(store, hook_at(&receiver));
    second.says("sent notify", 1).await;
    second.is_empty().await;
    let calls = receiver.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
}

#[tokio::test]
async fn a_delivery_whose_mark_fails_is_not_repeated_while_the_process_lives() {
    let receiver = Receiver::start(Mood::Hang, None).await;
    let (store, breaker) = Store::breakable_for_tests();
    let channels = channels(&format!(
        "  webhooks: {{notify: {{url: \"http://127.0.0.1:{}/\", secret: \"{SECRET}\", timeout: 60s}}}}",
        receiver.port
    ));
    let running = Running::on(Arc::new(store), channels);
    receiver.answer_with(Mood::Slow);
    running.send(to_hook("notify", 300)).await;
    receiver.gets(1).await;
    breaker.break_it();
    receiver.answer_now();
    running.says("sent notify", 1).await;
    breaker.mend();
    running.is_empty().await;
    assert_eq!(receiver.calls().len(), 1);
}

#[tokio::test]
async fn a_message_that_passes_its_time_is_lost_and_says_so() {
    let receiver = Receiver::start(Mood::Status(500), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    running.send(to_hook("notify", 2)).await;
    running.says("lost notify expired", 1).await;
    running.is_empty().await;
    assert_eq!(running.counts.count("sent notify"), 0);
}

#[tokio::test]
async fn a_dead_channel_delays_no_other_and_a_backlog_no_code() {
    let certificates = Certificates::new();
    let dead = MailServer::start("hang", &certificates);
    let (busy, other) = (Receiver::start(Mood::Hang, None).await, Receiver::start(Mood::Status(200), None).await);
    let running = Running::on(
        Arc::new(Store::for_tests()),
        channels(&format!(
            "  mail: {{server: \"smtp://127.0.0.1:{}\", from: gate@example.com}}\n  webhooks:\n    busy: {{url: \"http://127.0.0.1:{}/\", secret: \"{SECRET}\", timeout: 60s}}\n    other: {{url: \"http://127.0.0.1:{}/\", secret: \"{SECRET}\"}}",
            dead.port, busy.port, other.port
        )),
    );
    for _ in 0..20 {
        running.send(to_mail(86_400)).await;
        running.send(to_hook("busy", 86_400)).await;
    }
    busy.gets(2).await;
    // The notices hang; a code for the same receiver, and anything for another one, goes out beside them.
    running.send(to_hook("busy", 300)).await;
    assert_eq!(busy.gets(3).await.len(), 3);
    running.send(to_hook("other", 300)).await;
    running.says("sent other", 1).await;
}

#[tokio::test]
async fn what_cannot_be_sent_or_has_no_room_is_refused_before_anything_is_written() {
    let receiver = Receiver::start(Mood::Hang, None).await;
    let store = Arc::new(Store::for_tests());
    let outbox = Outbox::new(store, hook_at(&receiver), Arc::new(SystemClock), Arc::new(Unobserved));
    let now: Now = SystemClock.now();
    let fault = |message: Message| outbox.enqueue(Batch::new(), message, now).err();
    assert_eq!(fault(to_hook("nobody", 300)), Some(EnqueueFault::Unconfigured));
    assert_eq!(fault(to_mail(300)), Some(EnqueueFault::Unconfigured));
    assert_eq!(fault(to_hook("notify", 0)), Some(EnqueueFault::Expired));
    for _ in 0..super::super::schedule::MOST_PASSING {
        assert_eq!(fault(to_hook("notify", 300)), None);
    }
    assert_eq!(fault(to_hook("notify", 300)), Some(EnqueueFault::Full));
    assert_eq!(outbox.check(&to_hook("notify", 300), now), Err(EnqueueFault::Full));
    assert_eq!(fault(to_hook("notify", 86_400)), None, "changes have a bound of their own");
}

#[tokio::test]
async fn a_channel_that_is_taken_out_waits_and_delivers_once_it_is_back() {
    let receiver = Receiver::start(Mood::Status(500), None).await;
    let running = Running::on(Arc::new(Store::for_tests()), hook_at(&receiver));
    running.send(to_hook("notify", 300)).await;
    running.says("retried notify", 1).await;
    running.outbox.replace(Channels::default());
    running.says("retried none", 1).await;
    receiver.answer_with(Mood::Status(200));
    running.outbox.replace(hook_at(&receiver));
    running.says("sent notify", 1).await;
    running.is_empty().await;
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_nothing() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let (store, breaker) = Store::breakable_for_tests();
    let store = Arc::new(store);
    let running = Running::on(Arc::clone(&store), Channels::default());
    let sender = Running::on(Arc::clone(&store), hook_at(&receiver));
    drop(running);
    let now = SystemClock.now();
    let batch = sender.outbox.enqueue(Batch::new(), to_hook("notify", 300), now).unwrap();
    store.commit(batch, now).await.unwrap();
    breaker.break_it();
    sender.outbox.poke();
    tokio::task::yield_now().await;
    breaker.mend();
    sender.says("sent notify", 1).await;
    sender.is_empty().await;
}

/// A clock that is ahead by so many milliseconds.
#[derive(Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Now {
        let now = SystemClock.now();
        Now { unix_ms: now.unix_ms + self.0.load(Ordering::SeqCst), ..now }
    }
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_for_a_while_loses_no_message() {
    let receiver = Receiver::start(Mood::Status(500), None).await;
    let clock = Arc::new(Ahead::default());
    let running = Running::at(clock.clone(), Arc::new(Store::for_tests()), hook_at(&receiver));
    running.send(to_hook("notify", 300)).await;
    running.says("retried notify", 1).await;
    clock.0.store(30 * 86_400_000, Ordering::SeqCst);
    running.outbox.replace(hook_at(&receiver));
    running.says("retried notify", 2).await;
    clock.0.store(0, Ordering::SeqCst);
    receiver.answer_with(Mood::Status(200));
    running.outbox.replace(hook_at(&receiver));
    running.says("sent notify", 1).await;
    running.is_empty().await;
}
