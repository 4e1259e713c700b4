//! Of an account that was erased nothing is left, and of others everything.

use super::*;

/// The rows that name an account by its number, its name, its address, or what keys are made of those.
async fn traces(scene: &Scene, id: &str) -> Vec<(Table, String)> {
    let store = scene.accounts.store();
    let [sessions, ended] = session::prefixes(store, id);
    let mut words: Vec<String> = ["alice", "alice@example.org"].map(str::to_owned).into();
    for name in words.clone() {
        words.push(store.index("account", &[name.as_bytes()]));
        words.push(store.index("mails to", &[name.as_bytes()]));
        words.push(store.index("password guesses", &[name.as_bytes()]));
    }
    words.extend([id.to_owned(), store.index("account id", &[id.as_bytes()]), sessions, ended]);
    let named = store.everything().await.into_iter().filter(|(_, key, value)| {
        let value = value.to_string();
        words.iter().any(|word| key.contains(word) || value.contains(word))
    });
    named.map(|(table, key, _)| (table, key)).collect()
}

/// Alice with something wherever there can be something of hers; her number, and her tokens.
async fn with_everything(scene: &Scene) -> (String, Value) {
    let tokens = scene.signed_in().await;
    let id = claims(text(&tokens["access_token"]))["sub"].as_str().unwrap().to_owned();
    scene.signed_in().await;
    let other = scene.signed_in().await;
    let (status, ..) = scene.call(Method::DELETE, "/session", Value::Null, other["access_token"].as_str()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_ne!(scene.sign_in("alice", "wrong").await.0, StatusCode::OK);
    assert_ne!(scene.sign_in("alice@example.org", "wrong").await.0, StatusCode::OK);
    let (status, ..) = scene.post("/recovery", json!({"email": "alice@example.org"})).await;
    assert!(status.is_success(), "{status}");
    let wanted = json!({"name": "somebody", "email": "alice@example.org", "password": OTHER});
    assert_eq!(scene.post("/registrations", wanted).await.0, StatusCode::ACCEPTED);
    (id, tokens)
}

fn owner(scene: &Scene, id: &str) -> crate::authority::Owner {
    scene.accounts.owner(id)
}

#[tokio::test]
async fn of_an_account_that_is_forgotten_no_row_is_left_and_no_token_is_worth_anything() {
    let scene = Scene::with_alice().await;
    scene.add("bob", Some("bob@example.org"), PASSWORD).await;
    let (id, tokens) = with_everything(&scene).await;
    let before: Vec<Table> = traces(&scene, &id).await.into_iter().map(|(table, _)| table).collect();
    for table in [Table::Accounts, Table::Sessions, Table::Ceremonies, Table::Guesses, Table::Sent, Table::Outbox] {
        assert!(before.contains(&table), "{table:?} has something to forget: {before:?}");
    }
    let gone = scene.accounts.forget(&owner(&scene, &id), scene.now).await.unwrap();
    assert!(gone > 8, "{gone}");
    assert_eq!(traces(&scene, &id).await, []);
    let sid = claims(text(&tokens["access_token"]))["sid"].as_str().unwrap().to_owned();
    assert!(scene.refused.0.lock().unwrap().contains(&sid), "her access token is refused");
    assert_ne!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused);
    assert_eq!(scene.sign_in("bob", PASSWORD).await.0, StatusCode::OK);
    assert_eq!(scene.accounts.forget(&owner(&scene, &id), scene.now).await, Ok(0));
    scene.add("alice", Some("alice@example.org"), PASSWORD).await;
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK, "the name is free, and nothing is locked");
}

#[tokio::test]
async fn an_account_goes_only_for_whom_this_issuer_vouches_for() {
    let scene = Scene::with_alice().await;
    let (id, _) = with_everything(&scene).await;
    let before = traces(&scene, &id).await;
    let stranger = crate::authority::Owner { issuer: "https://idp.example/".into(), subject: id.as_str().into() };
    assert_eq!(scene.accounts.forget(&stranger, scene.now).await, Ok(0));
    assert_eq!(traces(&scene, &id).await, before);
    // Without accounts in the configuration nobody says whose they are: it is not taken for done.
    let fault = crate::authority::forget_rows(scene.accounts.store(), "https://idp.example/", &id, scene.now).await;
    assert!(matches!(fault, Err(StoreFault::Unavailable(_))), "{fault:?}");
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
}

#[tokio::test]
async fn wherever_the_end_of_an_account_is_cut_off_it_is_finished_and_its_tokens_are_refused() {
    let (mut commits, mut is_whole) = (0, false);
    while !is_whole {
        let config = config("open", "");
        let (store, breaker) = Store::breakable_for_tests();
        let refused = Arc::new(Refused::default());
        let means = means(&Arc::new(store), &config, refused.clone());
        let accounts = Accounts::compile(config.authority.as_ref().unwrap(), &NoFiles, means, None).unwrap().unwrap();
        let now = SystemClock.now();
        let scene =
            Scene { accounts, second: Steps::default(), refused, ear: Arc::default(), now, client: "192.0.2.1" };
        scene.add("alice", Some("alice@example.org"), PASSWORD).await;
        let tokens = scene.signed_in().await;
        let payload = claims(text(&tokens["access_token"]));
        let (id, sid) = (payload["sub"].as_str().unwrap(), payload["sid"].as_str().unwrap().to_owned());
        assert_ne!(scene.sign_in("alice", "wrong").await.0, StatusCode::OK);
        breaker.break_after(commits);
        is_whole = scene.accounts.forget(&owner(&scene, id), scene.now).await.is_ok();
        breaker.mend();
        scene.accounts.forget(&owner(&scene, id), scene.now).await.unwrap();
        let left = traces(&scene, id).await;
        assert!(left.iter().all(|(table, _)| *table == Table::Guesses), "after {commits} commits: {left:?}");
        assert!(scene.refused.0.lock().unwrap().contains(&sid), "after {commits} commits");
        commits += 1;
    }
    assert!(commits > 3, "{commits}");
}
