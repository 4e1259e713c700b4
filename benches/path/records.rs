//! What it costs to tell of a request, and to be asked for what was told.

use std::{hint::black_box, net::Ipv4Addr, time::Duration};

use criterion::Criterion;
use http::Method;
use stepgate::{
    policy::Reason,
    telemetry::{AccessLog, AccessRecord, Metrics, access::AccessSink},
};

use crate::setup;

const ROUTES: usize = 100;

pub(crate) fn metrics(c: &mut Criterion) {
    let metrics = Metrics::new().unwrap();
    let routes: Vec<_> = (0..ROUTES).map(|number| metrics.route(&format!("route-{number}"))).collect();
    let took = Duration::from_micros(730);
    for route in &routes {
        route.answered(&Method::GET, 200, took);
        route.answered(&Method::POST, 403, took);
    }
    let mut group = c.benchmark_group("metrics");
    group.bench_function("count a request", |b| {
        b.iter(|| {
            routes[0].answered(black_box(&Method::GET), black_box(200), black_box(took));
            metrics.decided(black_box(Reason::Allowed));
        });
    });
    group.bench_function("render, 100 routes", |b| b.iter(|| metrics.render(setup::now()).unwrap().len()));
    group.finish();
}

pub(crate) fn access_log(c: &mut Criterion) {
    let metrics = Metrics::new().unwrap();
    let log = AccessLog::start(&AccessSink::File("/dev/null".into()), metrics.access_log_dropped()).unwrap();
    let record = AccessRecord {
        unix_ms: setup::now().unix_ms,
        request_id: "0123456789abcdef0123456789abcdef",
        trace_id: Some("0123456789abcdef0123456789abcdef"),
        client: Ipv4Addr::new(203, 0, 113, 7).into(),
        listener: "0.0.0.0:443",
        protocol: "HTTP/1.1",
        tls: Some("TLSv1.3"),
        method: "GET",
        route: Some("items"),
        path: "/service-17/items/4711/history",
        status: 200,
        reason: Reason::Allowed,
        bytes_in: 0,
        bytes_out: 128,
        took: Duration::from_micros(730),
        upstream: Some("api"),
        upstream_took: Some(Duration::from_micros(610)),
        issuer: Some("main"),
        subject: Some("alice"),
        step_up: None,
        stream_end: None,
    };
    c.bench_function("access log/record a request", |b| b.iter(|| log.record(black_box(&record))));
    log.close();
}
