//! The route table: host exact before wildcard before any, then the path segment by segment, literal before `{x}` before
//! `*` before `**`, and the method last. One tree for each set of hosts; ten thousand routes cost a few comparisons more
//! than ten.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::Method;

use super::{
    HostPattern, NormalPath, PathPattern, Segment,
    path::{self, Segments},
};

/// A route as the table knows it; its number is its place in the list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The path.
    pub path: PathPattern,
    /// The hosts; empty: any.
    pub hosts: Vec<HostPattern>,
    /// The methods; `None`: any.
    pub methods: Option<Vec<Method>>,
}

/// What the table says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The route with this number.
    Route(usize),
    /// The path is there, the method is not; these are.
    MethodNotAllowed(Vec<Method>),
    /// Nothing names this path.
    Nothing,
}

/// All routes, ready for looking up.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact_hosts: HashMap<Arc<str>, Trees>,
    /// Longest suffix first.
    wildcard_hosts: Vec<(Arc<str>, Trees)>,
    any_host: Trees,
    /// Whether a literal of some route is not its own folded form.
    literals_fold: bool,
}

/// The routes of one set of hosts, as written and folded.
#[derive(Debug, Default)]
struct Trees {
    exact: Tree,
    folded: Tree,
}

/// A node of the segment tree.
#[derive(Debug, Default)]
struct Tree {
    literals: Vec<(Arc<str>, Tree)>,
    parameter: Option<Box<Tree>>,
    any: Option<Box<Tree>>,
    rest: Vec<Leaf>,
    here: Vec<Leaf>,
}

/// A route at the end of a path.
#[derive(Debug)]
struct Leaf {
    route: usize,
    methods: Option<Arc<[Method]>>,
}

impl RouteTable {
    /// Builds the table; a route's number is its place in `entries`.
    pub fn build(entries: &[Entry]) -> Self {
        let mut table = Self::default();
        for (route, entry) in entries.iter().enumerate() {
            let methods: Option<Arc<[Method]>> = entry.methods.as_deref().map(Into::into);
            let folded = entry.path.folded_segments();
            table.literals_fold |= folded != entry.path.segments();
            for trees in table.trees(&entry.hosts) {
                trees.exact.insert(entry.path.segments(), Leaf { route, methods: methods.clone() });
                trees.folded.insert(folded, Leaf { route, methods: methods.clone() });
            }
        }
        table.wildcard_hosts.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table.any_host.sort();
        table.exact_hosts.values_mut().for_each(Trees::sort);
        table.wildcard_hosts.iter_mut().for_each(|(_, trees)| trees.sort());
        table
    }

    fn trees(&mut self, hosts: &[HostPattern]) -> Vec<&mut Trees> {
        if hosts.is_empty() {
            return vec![&mut self.any_host];
        }
        for host in hosts {
            match host {
                HostPattern::Exact(name) => {
                    self.exact_hosts.entry(name.clone()).or_default();
                }
                HostPattern::Wildcard(suffix) => {
                    if !self.wildcard_hosts.iter().any(|(known, _)| known == suffix) {
                        self.wildcard_hosts.push((suffix.clone(), Trees::default()));
                    }
                }
            }
        }
        let exact =
            self.exact_hosts.iter_mut().filter(|(name, _)| hosts.contains(&HostPattern::Exact((*name).clone())));
        let wild =
            self.wildcard_hosts.iter_mut().filter(|(suffix, _)| hosts.contains(&HostPattern::Wildcard(suffix.clone())));
        exact.map(|(_, trees)| trees).chain(wild.map(|(_, trees)| trees)).collect()
    }

    /// Finds the route for a host (lower case, without port or final dot), path and method.
    pub fn find(&self, host: &str, path: &NormalPath<'_>, method: &Method) -> Found {
        self.routes_at(host, path).choose(method)
    }

    /// The routes of the most specific path that matches, whatever their methods.
    pub fn routes_at(&self, host: &str, path: &NormalPath<'_>) -> RoutesAt<'_> {
        self.find_in(host, &path.segments(), |trees| &trees.exact)
    }

    /// The routes that a server with lax ideas of paths would take the request for. `None` where there is nothing to be
    /// lax about.
    pub fn routes_at_folded(&self, host: &str, path: &NormalPath<'_>) -> Option<RoutesAt<'_>> {
        if !self.literals_fold && !path.folds() {
            return None;
        }
        Some(self.find_in(host, &path.folded_segments(), |trees| &trees.folded))
    }

    fn find_in(
        &self,
        host: &str,
        segments: &Segments<'_>,
        pick: impl for<'t> Fn(&'t Trees) -> &'t Tree,
    ) -> RoutesAt<'_> {
        let exact = if self.exact_hosts.is_empty() { None } else { self.exact_hosts.get(host) };
        let wild = self.wildcard_hosts.iter().filter(|(suffix, _)| under(host, suffix)).map(|(_, trees)| trees);
        for trees in exact.into_iter().chain(wild).chain([&self.any_host]) {
            if let Some(leaves) = pick(trees).find(segments) {
                return RoutesAt(leaves);
            }
        }
        RoutesAt(&[])
    }
}

/// The routes of one path, which differ in their methods.
#[derive(Debug, Clone, Copy)]
pub struct RoutesAt<'t>(&'t [Leaf]);

impl RoutesAt<'_> {
    /// The numbers of the routes.
    pub fn routes(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|leaf| leaf.route)
    }

    /// The routes that take a method, whichever is preferred: where several paths fold alike, a lax server may take a
    /// request for any of them.
    pub fn taking(&self, method: &Method) -> impl Iterator<Item = usize> {
        let takes = move |leaf: &&Leaf| {
            leaf.methods.as_deref().is_none_or(|methods| {
                methods.contains(method) || (*method == Method::HEAD && methods.contains(&Method::GET))
            })
        };
        self.0.iter().filter(takes).map(|leaf| leaf.route)
    }

    /// The route for a method.
    pub fn choose(&self, method: &Method) -> Found {
        if self.0.is_empty() { Found::Nothing } else { choose(self.0, method) }
    }
}

/// Whether a host is one or more labels in front of a suffix.
fn under(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// Among routes of one path: the one that names the method, then GET's for HEAD, then the one for any method.
fn choose(leaves: &[Leaf], method: &Method) -> Found {
    let naming = |wanted: &Method| {
        leaves.iter().find(|leaf| leaf.methods.as_deref().is_some_and(|methods| methods.contains(wanted)))
    };
    let found = naming(method)
        .or_else(|| if *method == Method::HEAD { naming(&Method::GET) } else { None })
        .or_else(|| leaves.iter().find(|leaf| leaf.methods.is_none()));
    if let Some(leaf) = found {
        return Found::Route(leaf.route);
    }
    let mut allowed: Vec<Method> = Vec::new();
    for listed in leaves.iter().filter_map(|leaf| leaf.methods.as_deref()).flatten() {
        if !allowed.contains(listed) {
            allowed.push(listed.clone());
        }
        if *listed == Method::GET && !allowed.contains(&Method::HEAD) {
            allowed.push(Method::HEAD);
        }
    }
    Found::MethodNotAllowed(allowed)
}

impl Trees {
    fn sort(&mut self) {
        self.exact.sort();
        self.folded.sort();
    }
}

impl Tree {
    fn insert(&mut self, segments: &[Segment], leaf: Leaf) {
        let Some((first, rest)) = segments.split_first() else {
            self.here.push(leaf);
            return;
        };
        match first {
            Segment::Literal(text) => {
                let at = self.literals.iter().rposition(|(known, _)| known == text).unwrap_or_else(|| {
                    self.literals.push((text.clone(), Self::default()));
                    self.literals.len() - 1
                });
                if let Some((_, child)) = self.literals.get_mut(at) {
                    child.insert(rest, leaf);
                }
            }
            Segment::Parameter(_) => self.parameter.get_or_insert_default().insert(rest, leaf),
            Segment::Any => self.any.get_or_insert_default().insert(rest, leaf),
            Segment::Rest => self.rest.push(leaf),
        }
    }

    fn sort(&mut self) {
        self.literals.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.literals.iter_mut().for_each(|(_, child)| child.sort());
        self.parameter.as_deref_mut().into_iter().chain(self.any.as_deref_mut()).for_each(Self::sort);
    }

    /// The routes of the most specific path that matches. Each node is visited at most once, so the cost is bounded by
    /// the table, whatever the request.
    fn find(&self, segments: &[std::borrow::Cow<'_, str>]) -> Option<&[Leaf]> {
        let below = match segments.split_first() {
            None => (!self.here.is_empty()).then_some(self.here.as_slice()),
            Some((first, rest)) => {
                let literal = self.literals.binary_search_by(|(text, _)| (**text).cmp(first)).ok();
                literal
                    .and_then(|at| self.literals.get(at))
                    .and_then(|(_, child)| child.find(rest))
                    .or_else(|| self.wild(self.parameter.as_deref(), first, rest))
                    .or_else(|| self.wild(self.any.as_deref(), first, rest))
            }
        };
        below.or_else(|| (!self.rest.is_empty()).then_some(self.rest.as_slice()))
    }

    fn wild<'t>(&self, child: Option<&'t Self>, first: &str, rest: &[std::borrow::Cow<'_, str>]) -> Option<&'t [Leaf]> {
        child.filter(|_| !first.is_empty()).and_then(|child| child.find(rest))
    }
}

impl PathPattern {
    /// Whether the pattern matches a path in its own form, and no value in it is one that a lax server would take for another, but
    /// for its case.
    pub fn matches_exactly(&self, path: &NormalPath<'_>) -> bool {
        let segments = path.segments();
        let mut left = segments.iter();
        let is_value = |segment: &Cow<'_, str>| {
            path::fold_segment(segment).is_ok_and(|folded| folded == segment.to_uppercase().to_lowercase())
        };
        for wanted in self.segments() {
            match wanted {
                Segment::Rest => return left.all(is_value),
                Segment::Literal(text) => {
                    if left.next().is_none_or(|segment| *segment != **text) {
                        return false;
                    }
                }
                Segment::Parameter(_) | Segment::Any => {
                    if !left.next().is_some_and(is_value) {
                        return false;
                    }
                }
            }
        }
        left.next().is_none()
    }

    /// Whether the pattern matches the folded form of a path, itself folded.
    pub fn matches_folded(&self, path: &NormalPath<'_>) -> bool {
        let segments = path.folded_segments();
        let mut left = segments.iter();
        for wanted in self.folded_segments() {
            match wanted {
                Segment::Rest => return true,
                Segment::Literal(text) => {
                    if left.next().is_none_or(|segment| *segment != **text) {
                        return false;
                    }
                }
                Segment::Parameter(_) | Segment::Any => {
                    if left.next().is_none() {
                        return false;
                    }
                }
            }
        }
        left.next().is_none()
    }

    /// The values of the pattern's parameters in a path that it matches, decoded.
    pub fn parameters(&self, path: &NormalPath<'_>) -> Vec<(Arc<str>, String)> {
        let segments = path.segments();
        let named = self.segments().iter().zip(segments);
        named
            .filter_map(|(wanted, segment)| match wanted {
                Segment::Parameter(name) => Some((name.clone(), segment.into_owned())),
                Segment::Literal(_) | Segment::Any | Segment::Rest => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_exact_match_has_no_value_that_a_lax_server_would_take_for_another() {
        let pattern = PathPattern::parse("/accounts/{id}").unwrap();
        let is_exact = |raw: &str| pattern.matches_exactly(&NormalPath::parse(raw).unwrap());
        for raw in ["/accounts/42", "/accounts/Alice", "/accounts/auth0%7C7", "/%61ccounts/a%20b", "/accounts/%C3%A9"] {
            assert!(is_exact(raw), "{raw}");
        }
        for raw in [
            "/Accounts/42",
            "/accounts/42/",
            "/accounts;v=1/42",
            "/accounts/42;v=1",
            "/accounts/42%3Bv",
            "/accounts/42.",
            "/accounts/42%20",
            "/accounts/%2534",
            "/accounts",
            "/accounts/",
            "/accounts/4/2",
        ] {
            assert!(!is_exact(raw), "{raw}");
        }
    }

    fn entry(line: &str) -> Entry {
        let mut parts = line.split(' ');
        let (methods, path, host) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        Entry {
            path: PathPattern::parse(path).unwrap(),
            hosts: host.map(|host| HostPattern::parse(host).unwrap()).into_iter().collect(),
            methods: (methods != "*").then(|| methods.split(',').map(|m| m.parse().unwrap()).collect()),
        }
    }

    fn find(routes: &[&str], host: &str, method: &str, path: &str) -> Found {
        let table = RouteTable::build(&routes.iter().map(|line| entry(line)).collect::<Vec<_>>());
        table.find(host, &NormalPath::parse(path).unwrap(), &method.parse().unwrap())
    }

    #[test]
    fn literals_come_before_parameters_before_any_before_rest() {
        let routes = ["* /a/**", "* /a/*", "* /a/{id}", "* /a/b", "* /**", "* /a/{id}/c", "* /a/b/d"];
        for (path, route) in [
            ("/a/b", 3),
            ("/a/x", 2),
            ("/a/x/c", 5),
            ("/a/b/c", 5),
            ("/a/b/d", 6),
            ("/a/x/y", 0),
            ("/a", 0),
            ("/a/", 0),
            ("/", 4),
            ("/b", 4),
            ("/%61/%62", 3),
        ] {
            assert_eq!(find(&routes, "h", "GET", path), Found::Route(route), "{path}");
        }
    }

    #[test]
    fn exact_hosts_come_before_wildcards_before_any() {
        let routes = ["* /x", "* /x *.example", "* /x a.example", "* /x *.b.example", "* /only-any"];
        for (host, route) in [("a.example", 2), ("c.example", 1), ("c.b.example", 3), ("example", 0), ("other", 0)] {
            assert_eq!(find(&routes, host, "GET", "/x"), Found::Route(route), "{host}");
        }
        assert_eq!(find(&routes, "a.example", "GET", "/only-any"), Found::Route(4));
        assert_eq!(find(&routes, "notexample", "GET", "/x"), Found::Route(0));
    }

    #[test]
    fn a_method_that_the_path_does_not_list_is_never_a_less_specific_path() {
        let routes = ["GET /p/**", "POST /p/**", "* /**"];
        assert_eq!(find(&routes, "", "HEAD", "/p/1"), Found::Route(0));
        assert_eq!(
            find(&routes, "", "DELETE", "/p/1"),
            Found::MethodNotAllowed(vec![Method::GET, Method::HEAD, Method::POST])
        );
        assert_eq!(find(&["* /a"], "", "GET", "/b"), Found::Nothing);
        assert_eq!(find(&["* /A"], "", "GET", "/a"), Found::Nothing);
    }

    #[test]
    fn the_folded_lookup_sees_what_a_lax_server_would() {
        let table = RouteTable::build(&[entry("* /**"), entry("* /admin/**"), entry("* /Items")]);
        let folded = |path: &str| {
            let path = NormalPath::parse(path).unwrap();
            table.routes_at_folded("", &path).map(|routes| routes.choose(&Method::GET))
        };
        assert_eq!(folded("/ADMIN/x"), Some(Found::Route(1)));
        assert_eq!(folded("/admin;x/y"), Some(Found::Route(1)));
        assert_eq!(folded("/items/"), Some(Found::Route(2)));
        let plain = RouteTable::build(&[entry("* /**")]);
        assert!(plain.routes_at_folded("", &NormalPath::parse("/a").unwrap()).is_none());
    }

    #[test]
    fn routes_that_fold_alike_are_all_told() {
        let table =
            RouteTable::build(&[entry("* /**"), entry("GET /Admin/**"), entry("* /ADMIN/**"), entry("PUT /admiN/**")]);
        let path = NormalPath::parse("/admin/x").unwrap();
        let folded = table.routes_at_folded("", &path).unwrap();
        assert_eq!(folded.taking(&Method::HEAD).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(folded.taking(&Method::PUT).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn guarded_patterns_match_folded_and_name_parameters() {
        let pattern = PathPattern::parse("/account/{id}/delete/**").unwrap();
        for path in ["/account/7/delete", "/ACCOUNT/7/Delete/", "/account/7/delete;x/y", "/account/7/delete./a/b"] {
            assert!(pattern.matches_folded(&NormalPath::parse(path).unwrap()), "{path}");
        }
        assert!(!pattern.matches_folded(&NormalPath::parse("/account/7").unwrap()));
        let path = NormalPath::parse("/account/a%20b/delete").unwrap();
        assert_eq!(pattern.parameters(&path), [("id".into(), "a b".to_owned())]);
    }

    /// How a path is read: as it is, or as a lax server would.
    #[derive(Clone, Copy, PartialEq)]
    enum Reading {
        Exact,
        Lax,
    }

    /// The definition of a match, written as plainly as it can be: the table must agree with it.
    fn fits(reading: Reading, pattern: &[Segment], path: &[String]) -> bool {
        match (pattern, path) {
            ([], []) | ([Segment::Rest], _) => true,
            ([Segment::Literal(text)], []) => reading == Reading::Lax && text.is_empty(),
            ([first, pattern @ ..], [segment, path @ ..]) => {
                let this = match (first, reading) {
                    (Segment::Literal(text), Reading::Exact) => **text == **segment,
                    (Segment::Literal(text), Reading::Lax) => lax(text) == lax(segment),
                    _ => !segment.is_empty(),
                };
                this && fits(reading, pattern, path)
            }
            _ => false,
        }
    }

    /// Folding, for the few spellings that the property uses.
    fn lax(segment: &str) -> String {
        segment.to_lowercase().split(';').next().unwrap().trim_end_matches('.').to_owned()
    }

    fn naive(entries: &[Entry], reading: Reading, host: &str, path: &[String], method: &Method) -> Found {
        let host_rank = |entry: &Entry| {
            let rank = |pattern: &HostPattern| match pattern {
                HostPattern::Exact(name) => (**name == *host).then_some(0),
                HostPattern::Wildcard(suffix) => host.ends_with(&format!(".{suffix}")).then(|| 100 - suffix.len()),
            };
            if entry.hosts.is_empty() { Some(100) } else { entry.hosts.iter().filter_map(rank).min() }
        };
        // A pattern that says more at the first segment where two differ is the more specific one.
        let path_rank = |entry: &Entry| {
            let kind = |segment: &Segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Parameter(_) => 1,
                Segment::Any => 2,
                Segment::Rest => 3,
            };
            let slash = |segment: &&Segment| {
                reading == Reading::Exact || !matches!(segment, Segment::Literal(text) if text.is_empty())
            };
            let kinds: Vec<u8> = entry.path.segments().iter().filter(slash).map(kind).collect();
            fits(reading, entry.path.segments(), path).then_some(kinds)
        };
        let rank = |entry: &Entry| Some((host_rank(entry)?, path_rank(entry)?));
        let Some(best) = entries.iter().filter_map(rank).min() else { return Found::Nothing };
        let at: Vec<(usize, &Entry)> =
            entries.iter().enumerate().filter(|(_, entry)| rank(entry).as_ref() == Some(&best)).collect();
        let naming = |method: &Method| {
            at.iter().find(|(_, entry)| entry.methods.as_ref().is_some_and(|methods| methods.contains(method)))
        };
        let any = || at.iter().find(|(_, entry)| entry.methods.is_none());
        let found = naming(method).or_else(|| (*method == Method::HEAD).then(|| naming(&Method::GET)).flatten());
        match found.or_else(any) {
            Some((number, _)) => Found::Route(*number),
            None => Found::MethodNotAllowed(Vec::new()),
        }
    }

    /// The methods of a 405 are another test's.
    fn without_methods(found: Found) -> Found {
        match found {
            Found::MethodNotAllowed(_) => Found::MethodNotAllowed(Vec::new()),
            Found::Route(_) | Found::Nothing => found,
        }
    }

    fn any_pattern() -> impl Strategy<Value = PathPattern> {
        let segment = prop::sample::select(vec!["a", "b", "A", "b;v", "{}", "*"]);
        let end = prop::sample::select(vec!["", "/", "/**"]);
        (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
            let named = |(at, segment): (usize, &&str)| segment.replace("{}", &format!("{{p{at}}}"));
            let text: String = segments.iter().enumerate().map(named).map(|segment| format!("/{segment}")).collect();
            let text = format!("{text}{end}");
            PathPattern::parse(if text.is_empty() { "/" } else { &text }).unwrap()
        })
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let host = prop::sample::select(vec!["a.example", "*.example", "*.b.example", "x.b.example"]);
        let hosts = prop::collection::vec(host.prop_map(|host| HostPattern::parse(host).unwrap()), 0..3);
        let method = prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST]);
        (any_pattern(), hosts, prop::option::of(prop::collection::vec(method, 1..3)))
            .prop_map(|(path, hosts, methods)| Entry { path, hosts, methods })
    }

    fn any_path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "c", "A", "%61", "b;v", "a."]);
        (prop::collection::vec(segment, 0..5), prop::bool::ANY).prop_map(|(segments, slash)| {
            let text: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            if text.is_empty() || slash { text + "/" } else { text }
        })
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_naive_matcher(
            entries in prop::collection::vec(any_entry(), 0..12),
            host in prop::sample::select(vec!["a.example", "b.example", "x.b.example", "example", "other"]),
            path in any_path(),
            method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::DELETE]),
        ) {
            let table = RouteTable::build(&entries);
            let path = NormalPath::parse(&path).unwrap();
            let exact: Vec<String> = path.as_str().split('/').skip(1).map(str::to_owned).collect();
            let exact = if path.as_str() == "/" { Vec::new() } else { exact };
            let found = table.find(host, &path, &method);
            prop_assert_eq!(without_methods(found.clone()), naive(&entries, Reading::Exact, host, &exact, &method));

            let folded: Vec<String> = exact.iter().filter(|segment| !segment.is_empty()).cloned().collect();
            let expected = naive(&entries, Reading::Lax, host, &folded, &method);
            match table.routes_at_folded(host, &path) {
                Some(at) => prop_assert_eq!(without_methods(at.choose(&method)), expected),
                // Nothing to be lax about: the two readings are one.
                None => prop_assert_eq!(without_methods(found), expected),
            }
            for entry in &entries {
                let expected = fits(Reading::Lax, entry.path.segments(), &folded);
                prop_assert_eq!(entry.path.matches_folded(&path), expected, "{}", entry.path);
            }
        }
    }
}
