//! What `check` lists besides where there are deletion plans: other operations of the same services that look destructive, and that no
//! plan takes over or covers. By a service's own description of itself (OpenAPI), or else by the routes.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value};

use super::{
    Config, Deletions, File, Materials, Problem, Route, RouteDeletion,
    unguarded::{is_telling, telling_segment},
};
use crate::route::{PathPattern, overlap};

/// The longest description: that of a very large API has a few MiB.
const MAX_BYTES: usize = 16 << 20;
/// How many operations one problem names.
const MAX_NAMED: usize = 20;
/// The methods that a path of a description can have.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Other operations of the services of plans that look destructive, as warnings: one for each service.
pub fn uncovered(config: &Config) -> Vec<Problem> {
    let Some(deletions) = &config.deletions else { return Vec::new() };
    let accepts =
        |route: &Route, method: &Method| route.methods.as_ref().unwrap_or(&config.server.methods).contains(method);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for operation in deletions.plans.iter().flat_map(|plan| &plan.operations) {
        let reached =
            |route: &&Route| accepts(route, &operation.method) && overlap::overlaps(&route.path, &operation.path);
        for service in config.routes.iter().filter(reached).flat_map(Route::upstreams).map(|upstream| &upstream.name) {
            if !seen.insert(service) {
                continue;
            }
            let mut others = Vec::new();
            for route in
                config.routes.iter().filter(|route| route.upstreams().any(|upstream| upstream.name == *service))
            {
                let telling = telling_segment(route).is_some();
                let destructive = |method: &&Method| **method == Method::DELETE || (telling && !is_safe(method));
                let open = METHODS.iter().filter(|method| accepts(route, method)).filter(destructive);
                let open = open.filter(|method| !is_known(deletions, method, &route.path, telling));
                others.extend(open.map(|method| format!("{method} {}", route.path)));
            }
            if !others.is_empty() {
                let message = format!(
                    "{} of the upstream `{service}` look destructive, too, and no plan takes them over or covers them",
                    named(&others)
                );
                let help = "where one of them deletes what a plan does, add it to the plan's `covers`; `openapi` tells more exactly";
                found.push(Problem::warning(&operation.span, message).with_help(help));
            }
        }
    }
    found
}

/// What plans' descriptions have that they do not: operations that look destructive and are neither taken over, nor covered, nor guarded;
/// and operations of plans that are not described, most often a slip. A description that cannot be read is an error.
pub fn described(config: &Config, materials: &dyn Materials) -> Vec<Problem> {
    let Some(deletions) = &config.deletions else { return Vec::new() };
    let plans = deletions.plans.iter().filter_map(|plan| Some((plan, plan.openapi.as_ref()?)));
    plans
        .flat_map(|(plan, file)| match read(file, materials) {
            Err(problem) => vec![*problem],
            Ok(operations) => {
                let mut found = open(&operations, file, config, deletions);
                for planned in &plan.operations {
                    let fits = |described: &Described| {
                        described.method == planned.method
                            && described.paths.iter().any(|path| overlap::overlaps(path, &planned.path))
                    };
                    if !operations.iter().any(fits) {
                        let message = format!("{} does not describe `{}`", file.path.display(), planned.text);
                        let help = "the path that clients ask for is meant; `servers` of the description may be put before its own";
                        found.push(Problem::warning(&planned.span, message).with_help(help));
                    }
                }
                found
            }
        })
        .collect()
}

fn open(operations: &[Described], file: &File, config: &Config, deletions: &Deletions) -> Vec<Problem> {
    let is_open = |described: &&Described| {
        let (method, paths) = (&described.method, &described.paths);
        let reached = paths.iter().any(|path| {
            config.routes.iter().any(|route| {
                overlap::overlaps(&route.path, path)
                    && route.methods.as_ref().unwrap_or(&config.server.methods).contains(method)
            })
        });
        described.destructive
            && reached
            && !paths.iter().any(|path| is_known(deletions, method, path, false) || is_guarded(config, method, path))
    };
    let found: Vec<String> = operations.iter().filter(is_open).map(|described| described.text.clone()).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "{} of {} look destructive: no plan takes them over or covers them, and nothing guards them",
        named(&found),
        file.path.display()
    );
    let help = "add them to the plan's `operations` or `covers`, or to `deletion_guard.operations`";
    vec![Problem::warning(&file.span, message).with_help(help)]
}

fn named(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(MAX_NAMED).map(String::as_str).collect();
    match all.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether a plan takes an operation over, or covers it. Of paths that `**` makes wide, some being known is enough, unless they are to be
/// known `wholly`: a plan's own route is often wider than its operation.
fn is_known(deletions: &Deletions, method: &Method, path: &PathPattern, wholly: bool) -> bool {
    let fits = |known: &PathPattern| match wholly {
        true => overlap::covers(known, path),
        false => overlap::overlaps(known, path),
    };
    deletions.plans.iter().any(|plan| {
        plan.operations.iter().any(|known| known.method == *method && fits(&known.path))
            || plan
                .covers
                .iter()
                .any(|cover| cover.method.as_ref().is_none_or(|known| known == method) && fits(&cover.path))
    })
}

/// Whether the guard has an operation, on every route that it can take.
fn is_guarded(config: &Config, method: &Method, path: &PathPattern) -> bool {
    let listed = config.deletion_guard.operations.iter().any(|operation| {
        operation.method.as_ref().is_none_or(|known| known == method) && overlap::covers(&operation.path, path)
    });
    let out =
        |route: &Route| matches!(route.deletion, RouteDeletion::Unguarded) && overlap::overlaps(&route.path, path);
    listed && !config.routes.iter().any(out)
}

/// An operation of a description.
struct Described {
    text: String,
    method: Method,
    /// Its path as patterns: as written, and behind each of the servers' paths.
    paths: Vec<PathPattern>,
    destructive: bool,
}

fn read(file: &File, materials: &dyn Materials) -> Result<Vec<Described>, Box<Problem>> {
    let problem = |why: &str| Box::new(Problem::error(&file.span, format!("{}: {why}", file.path.display())));
    let bytes = materials.read_list(&file.path).map_err(|error| {
        Box::new(Problem::error(&file.span, format!("cannot read {}: {error}", file.path.display())))
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(problem("this description has more than 16 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| problem("this is no UTF-8"))?;
    let json = serde_json::from_str::<Value>(text).ok().or_else(|| serde_yaml::from_str::<Value>(text).ok());
    let json = json.ok_or_else(|| problem("this is neither JSON nor YAML"))?;
    let version = json.get("openapi").or_else(|| json.get("swagger"));
    let (Some(_), Some(Value::Object(paths))) = (version, json.get("paths")) else {
        let why = "this is no OpenAPI document: it has no `openapi`, or no `paths`";
        return Err(problem(why));
    };
    let bases = bases(&json);
    Ok(paths.iter().flat_map(|(path, item)| of_path(path, item, &bases)).collect())
}

/// The paths of the servers, without their final slashes; those with variables in them are left out.
fn bases(json: &Value) -> BTreeSet<String> {
    let servers = json.get("servers").and_then(Value::as_array).into_iter().flatten();
    let urls = servers.filter_map(|server| server.get("url")?.as_str());
    let paths = urls.filter_map(|url| match url.split_once("://") {
        Some((_, rest)) => Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()),
        None => url.starts_with('/').then_some(url),
    });
    let old = json.get("basePath").and_then(Value::as_str);
    let known = paths.chain(old).map(|path| path.trim_end_matches('/').to_owned());
    known.filter(|path| !path.contains('{')).chain([String::new()]).collect()
}

fn of_path(path: &str, item: &Value, bases: &BTreeSet<String>) -> Vec<Described> {
    let Value::Object(item) = item else { return Vec::new() };
    let patterns: Vec<PathPattern> =
        bases.iter().filter_map(|base| PathPattern::parse(&pattern(&format!("{base}{path}"))).ok()).collect();
    let telling = path.split('/').any(is_telling);
    let described = METHODS.iter().filter_map(|method| {
        let operation = item.get(method.as_str().to_ascii_lowercase().as_str())?.as_object()?;
        let destructive = *method == Method::DELETE || (telling && !is_safe(method)) || is_called_so(operation);
        Some(Described {
            text: format!("{method} {path}"),
            method: method.clone(),
            paths: patterns.clone(),
            destructive,
        })
    });
    described.collect()
}

/// Whether it is called so by its author, whatever its method.
fn is_called_so(operation: &Map<String, Value>) -> bool {
    operation.get("operationId").and_then(Value::as_str).is_some_and(is_telling)
}

/// A path of a description as a pattern: names there may have any characters, and be parts of segments.
fn pattern(path: &str) -> String {
    let wild = |segment: &str| if segment.contains(['{', '}', '*']) { "*".to_owned() } else { segment.to_owned() };
    path.split('/').map(wild).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use std::path::Path;

    use super::*;
    use crate::config::{Input, Severity, load};

    struct Api(&'static str);

    impl Materials for Api {
        fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
            match self.0 {
                "" => Err("there is no such file".to_owned()),
                text => Ok(text.as_bytes().to_vec()),
            }
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn config(routes: &str) -> Config {
        let text = format!(
            r#"
issuers:
  main: {{issuer: https://idp.example/, audience: [a], keys: {{discovery: true}}, algorithms: [RS256]}}
sealing: {{key: {{file: k}}}}
upstreams: {{api: {{targets: [http://127.0.0.1:9100]}}, other: {{targets: [http://127.0.0.1:9101]}}}}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ["DELETE /v1/accounts/{{id}}"]
      covers: ["POST /v1/accounts/{{id}}/delete"]
      openapi: api.yaml
      subject: path.id
      grace: 1d
      scope: {{summary: S, erased: [All]}}
      steps: [{{name: one, upstream: api, request: "DELETE /accounts/{{subject}}"}}]
routes:
{routes}"#
        );
        let input = Input { file: Path::new("g.yaml"), text: &text, base: Path::new("/etc"), env: &|_| None };
        load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    const ALL: &str = "  - {path: /**, upstream: api, auth: [main]}\n";

    fn told(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.message.as_str()).collect()
    }

    #[test]
    fn other_destructive_operations_of_a_service_are_named() {
        let routes = "  - {path: '/v1/accounts/{id}', upstream: api, auth: [main]}
  - {path: '/v1/accounts/{id}/delete', upstream: api, auth: [main], methods: [POST]}
  - {path: '/v1/users/{id}/purge', upstream: api, auth: [main], methods: [GET, POST]}
  - {path: '/v1/orders/**', upstream: api, auth: [main], methods: [GET, DELETE]}
  - {path: '/wipe', upstream: other, auth: [main], methods: [POST]}
";
        let found = uncovered(&config(routes));
        let message = "POST /v1/users/{id}/purge, DELETE /v1/orders/** of the upstream `api` look destructive, too, and no plan takes them over or covers them";
        assert_eq!(told(&found), [message]);
        assert!(uncovered(&config(ALL)).is_empty(), "the plan's own route is wider than its operation");
    }

    #[test]
    fn every_destructive_operation_of_a_description_is_looked_at() {
        let api = r#"
openapi: 3.1.0
servers: [{url: "https://api.example/v1/"}, {url: "https://{tenant}.example"}]
paths:
  /accounts/{account-id}:
    parameters: []
    get: {}
    delete: {}
  /accounts/{account-id}/delete: {post: {}}
  /accounts/{account-id}:purge: {post: {}}
  /me: {patch: {operationId: closeAccount}, get: {operationId: showMe}}
  /legacy: {get: {operationId: accounts_delete_2}}
  /orders/{id}: {delete: {}, get: {}}
"#;
        let found = described(&config(ALL), &Api(api));
        let message = "POST /accounts/{account-id}:purge, PATCH /me, GET /legacy of /etc/api.yaml look destructive: no plan takes them over or covers them, and nothing guards them";
        assert_eq!(told(&found), [message]);
        // What no route reaches, nobody can ask for.
        let narrow = "  - {path: /v1/accounts/**, upstream: api, auth: [main], methods: [GET, DELETE]}\n";
        assert!(described(&config(narrow), &Api(api)).is_empty());
    }

    #[test]
    fn a_description_is_openapi_and_has_the_plans_operations() {
        for (api, message) in [
            ("", "cannot read /etc/api.yaml: there is no such file"),
            ("a: [", "/etc/api.yaml: this is neither JSON nor YAML"),
            ("{\"a\": 1}", "/etc/api.yaml: this is no OpenAPI document: it has no `openapi`, or no `paths`"),
        ] {
            let found = described(&config(ALL), &Api(api));
            assert_eq!((told(&found), found[0].severity), (vec![message], Severity::Error));
        }
        let found =
            described(&config(ALL), &Api(r#"{"openapi": "3.0.3", "paths": {"/v1/acounts/{id}": {"delete": {}}}}"#));
        assert_eq!(told(&found), ["/etc/api.yaml does not describe `DELETE /v1/accounts/{id}`"]);
        let old = Api(r#"{"swagger": "2.0", "basePath": "/v1", "paths": {"/accounts/{id}": {"delete": {}}}}"#);
        assert!(described(&config(ALL), &old).is_empty());
    }
}
