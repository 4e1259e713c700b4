//! A load that lasts while the configuration is reloaded again and again, and loses no request. Two seconds long among
//! the tests; `just soak` makes it as long as one likes (STEPGATE_SOAK_SECONDS).

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{World, get, let_pass};

#[test]
fn reloads_under_load_lose_no_request() {
    let seconds = std::env::var("STEPGATE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let world = World::new();
    let yaml = |marker: usize| {
        format!(
            "routes:\n  - {{path: /open/**, upstream: api, auth: none}}\n  - {{path: /x, upstream: api, auth: [main]}}\n  - {{path: /marker-{marker}, upstream: api, auth: none}}\n"
        )
    };
    let gateway = world.start(&yaml(0));
    let token = world.token(json!({"exp": crate::harness::unix_now() + 600 + seconds}));
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (gateway, token, done, served) = (&gateway, &token, &done, &served);
            scope.spawn(move || {
                let mut wire = gateway.connect();
                for n in 0_usize.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    // Half keep their connection, half make a new one each time.
                    if client % 2 == 0 {
                        wire = gateway.connect();
                    }
                    let request = if n % 2 == 0 {
                        get("/open/x")
                    } else {
                        get("/x").header("Authorization", &format!("Bearer {token}"))
                    };
                    request.send_on(&mut wire).expect(200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        let mut reloads = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            reloads += 1;
            world.configure(&yaml(reloads));
            gateway.signal("HUP");
            let_pass(Duration::from_millis(150));
        }
        done.store(true, Ordering::Relaxed);
    });
    let served = served.load(Ordering::Relaxed);
    assert!(served >= 500, "{served}");
    assert!(gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]) >= 3.0);
    assert_eq!(gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]), 0.0);
    assert_eq!(gateway.metric("stepgate_requests_total", &["status=\"2xx\""]), served as f64);
}
