//! Which route a request is for, among few and among many.

use std::hint::black_box;

use criterion::Criterion;
use http::Method;
use stepgate::route::{Entry, Found, NormalPath, PathPattern, RouteTable};

/// What paths look like: as they are sent by most, with something to be decoded, and with everything that is normalised.
const PATHS: [(&str, &str); 3] = [
    ("plain", "/service-17/items/4711/history"),
    ("encoded", "/service-17/items/J%C3%BCrgen%20M/history"),
    ("doubtful", "/Service-17/items/47;v=1/%68istory."),
];

pub(crate) fn normalise(c: &mut Criterion) {
    let mut group = c.benchmark_group("normalise");
    for (name, path) in PATHS {
        group.bench_function(name, |b| b.iter(|| NormalPath::parse(black_box(path)).unwrap().as_str().len()));
    }
    group.finish();
}

pub(crate) fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    for count in [10, 10_000] {
        let table = RouteTable::build(&entries(count));
        let cases = [
            ("hit", format!("/service-{}/items/list", count / 2), true),
            ("parameters", format!("/service-{}/users/4711/orders/42", count / 2), true),
            ("rest", format!("/service-{}/files/a/b/c/d/e", count / 2), true),
            ("miss", format!("/service-{count}/items/list"), false),
        ];
        for (name, path, is_there) in &cases {
            let path = NormalPath::parse(path).unwrap();
            let find = || table.find(black_box("api.example"), black_box(&path), black_box(&Method::GET));
            assert_eq!(matches!(find(), Found::Route(_)), *is_there);
            group.bench_function(format!("{name}, {count} routes"), |b| b.iter(find));
        }
    }
    let pattern = PathPattern::parse("/service-5/users/{user}/orders/{order}").unwrap();
    let path = NormalPath::parse("/service-5/users/4711/orders/42").unwrap();
    group.bench_function("values of parameters", |b| b.iter(|| pattern.parameters(black_box(&path))));
    group.finish();
}

/// So many routes, of three kinds.
fn entries(count: usize) -> Vec<Entry> {
    let entry = |number: usize| {
        let path = match number % 3 {
            0 => format!("/service-{number}/items/list"),
            1 => format!("/service-{number}/users/{{user}}/orders/{{order}}"),
            _ => format!("/service-{number}/files/**"),
        };
        Entry { path: PathPattern::parse(&path).unwrap(), hosts: Vec::new(), methods: None }
    };
    // Three routes for the service that is asked for, so that each kind is found.
    let asked = count / 2;
    let others =
        (0..count - 3).map(entry).filter(move |entry| !entry.path.as_str().starts_with(&format!("/service-{asked}/")));
    let own = ["items/list", "users/{user}/orders/{order}", "files/**"];
    let own = own.map(|rest| PathPattern::parse(&format!("/service-{asked}/{rest}")).unwrap());
    others.chain(own.map(|path| Entry { path, hosts: Vec::new(), methods: None })).collect()
}
