//! Ways round a deletion plan, by the real binary: another path, a GraphQL mutation, a batch. What a plan covers never reaches the
//! service, and is in the audit; all else passes byte for byte.

use crate::harness::{Answer, Gateway, Recorder, World, delete, eventually, get, post};

fn scene() -> (World, Recorder, Gateway) {
    let (world, service) = (World::new(), Recorder::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    world.seal();
    let gateway = world.start(&format!(
        "sealing: {{key: {{file: seal.key}}}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{}']}}}}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ['DELETE /accounts/{{id}}']
      covers:
        - 'POST /accounts/{{id}}/close'
        - {{match: '* /graphql', mutations: [deleteAccount]}}
        - {{match: POST /batch, batch: true}}
      subject: path.id
      grace: 1d
      scope: {{summary: Your account, erased: [all of it]}}
      steps: [{{name: account, upstream: api, request: 'DELETE /accounts/{{subject}}'}}]
routes:
  - {{path: /graphql, upstream: api, auth: none}}
  - {{path: /**, upstream: api, auth: [main]}}
",
        service.port
    ));
    (world, service, gateway)
}

fn refused(answer: Answer) {
    let problem = answer.expect(403).json();
    assert_eq!(problem["type"], "urn:stepgate:problem:deletion-covered", "{problem}");
    assert!(!problem.to_string().contains("deleteAccount"), "what is covered is nobody's business: {problem}");
}

#[test]
fn what_a_plan_covers_never_reaches_the_service_and_is_audited() {
    let (world, service, gateway) = scene();
    let token = world.fresh_for("alice", 1);
    let json = |target: &str, body: &str| post(target, body).header("content-type", "application/json").bearer(&token);

    refused(post("/accounts/alice/close", "").bearer(&token).send(&gateway));
    refused(post("/Accounts/alice/CLOSE/", "").bearer(&token).send(&gateway));
    refused(json("/graphql", r#"{"query": "mutation { x: \u0064eleteAccount(id: 1) { ok } }"}"#).send(&gateway));
    refused(
        json("/graphql", r#"[{"query": "{ me }"}, {"query": "mutation { ...F } fragment F on M { deleteAccount }"}]"#)
            .send(&gateway),
    );
    refused(json("/graphql", r#"{"query": "{ me }"}"#).header("content-encoding", "gzip").send(&gateway));
    refused(json("/graphql", r#"{"id": "stored"}"#).send(&gateway));
    refused(get("/graphql?query=mutation%7BdeleteAccount%7D").send(&gateway));
    refused(
        json("/batch", r#"[{"method": "GET", "url": "/orders"}, {"method": "DELETE", "url": "/accounts/bob"}]"#)
            .send(&gateway),
    );
    refused(json("/batch", "no JSON").send(&gateway));
    service.assert_untouched();

    // Who asks is known where the route asks for it, and is in the audit with the covered operation.
    post("/accounts/alice/close", "").send(&gateway).expect(401);
    let records = eventually("the refusals", || {
        let all = gateway.audit();
        (all.iter().filter(|record| record["kind"] == "refusal").count() >= 4).then_some(all)
    });
    let covered = records.iter().filter(|record| record["reason"] == "deletion_covered");
    let operations: Vec<&str> = covered.filter_map(|record| record["op"]["guard"].as_str()).collect();
    assert!(operations.contains(&"POST /accounts/{id}/close") && operations.contains(&"POST /batch"), "{operations:?}");
    service.assert_untouched();
}

#[test]
fn other_requests_to_covered_endpoints_pass_byte_for_byte() {
    let (world, service, gateway) = scene();
    let token = world.fresh_for("alice", 1);
    let query = r#"{ "query" : "mutation deleteAccount { updateAccount(note: 1) { id } }", "variables": {"a": 1} }"#;
    post("/graphql", query).header("content-type", "application/json").send(&gateway).expect(200);
    let batch = r#"[{"method": "GET", "url": "/accounts/alice"}, {"method": "DELETE", "url": "/orders/7"}]"#;
    post("/batch", batch).header("content-type", "application/json").bearer(&token).send(&gateway).expect(200);
    let bodies: Vec<String> =
        service.requests().into_iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert_eq!(bodies, [query, batch]);
    // The plan's own operation goes on being taken over.
    delete("/accounts/alice").bearer(&token).send(&gateway).expect(202);
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn a_body_that_is_too_long_to_be_judged_is_refused() {
    let (_world, service, gateway) = scene();
    let long = format!(r#"{{"query": "{{ me }}", "variables": "{}"}}"#, "x".repeat(2 << 20));
    post("/graphql", &long).header("content-type", "application/json").send(&gateway).expect(413);
    service.assert_untouched();
}
