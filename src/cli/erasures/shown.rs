//! Deletions as a person reads them on a terminal, from the JSON that the admin API answers with. What is missing there is left out.

use serde_json::Value;

/// A page of deletions, a line each; the first page has a heading.
pub(super) fn list(page: &[Value], is_first: bool) -> String {
    let heading = ["ID", "PLAN", "STATE", "REQUESTED", "NEXT", "SUBJECT"].map(str::to_owned);
    let rows = page.iter().map(|one| {
        let next = text(one, "held_until").or_else(|| text(one, "erased_by")).or_else(|| text(one, "ended_at"));
        [
            text(one, "id").unwrap_or_default(),
            text(one, "plan").unwrap_or_default(),
            state(one),
            text(one, "requested_at").unwrap_or_default(),
            next.unwrap_or_default(),
            text(one, "subject").unwrap_or_default(),
        ]
    });
    table(&is_first.then_some(heading).into_iter().chain(rows).collect::<Vec<_>>(), "")
}

/// What became of one deletion by a command.
pub(super) fn line(one: &Value) -> String {
    format!("{}  {}", text(one, "id").unwrap_or_default(), state(one))
}

/// All that is known of one.
pub(super) fn whole(one: &Value) -> String {
    let mut rows = vec![row("deletion", text(one, "id")), row("plan", text(one, "plan"))];
    rows.push(row("operation", text(one, "operation")));
    rows.push(row("state", Some(state(one))));
    rows.push(row("subject", who(one)));
    rows.push(row("asked by", one.get("requested_by").map(party)));
    rows.push(row("proof", one.get("proof").map(proof)));
    for (name, key) in [
        ("requested", "requested_at"),
        ("held until", "held_until"),
        ("begun", "begun_at"),
        ("steps done", "done_at"),
        ("seen gone", "gone_at"),
        ("gone by", "erased_by"),
        ("ended", "ended_at"),
    ] {
        rows.push(row(name, text(one, key)));
    }
    rows.retain(|[_, value]| !value.is_empty());
    let mut whole = table(&rows, "");
    let sections = [
        ("held", one.get("holds"), hold as fn(&Value) -> Vec<String>),
        ("steps", one.get("steps"), step),
        ("probes", one.get("probes"), probe),
        ("what happened", one.get("events"), event),
    ];
    for (name, items, cells) in sections {
        let rows: Vec<Vec<String>> = items.and_then(Value::as_array).into_iter().flatten().map(cells).collect();
        if !rows.is_empty() {
            whole.push_str(&format!("\n\n{name}\n{}", table(&rows, "  ")));
        }
    }
    whole
}

/// The breaker.
pub(super) fn breaker(breaker: &Value) -> String {
    let number = |name: &str| breaker.get(name).and_then(Value::as_u64).unwrap_or_default();
    let held = format!("{} deletions are held by it", number("held"));
    match text(breaker, "tripped_at") {
        Some(at) => format!("tripped since {at}: every further deletion is held; {held}"),
        None => format!("not tripped; {held}"),
    }
}

fn hold(hold: &Value) -> Vec<String> {
    let by = hold.get("by").map(party).map(|by| format!("by {by}")).unwrap_or_default();
    vec![
        text(hold, "hold").unwrap_or_default(),
        text(hold, "at").unwrap_or_default(),
        by,
        text(hold, "reason").unwrap_or_default(),
    ]
}

fn step(step: &Value) -> Vec<String> {
    let outcome = [text(step, "state"), text(step, "status"), text(step, "why")];
    let attempts = step.get("attempts").and_then(Value::as_u64).filter(|attempts| *attempts > 0);
    vec![
        text(step, "name").unwrap_or_default(),
        request(step),
        outcome.into_iter().flatten().collect::<Vec<_>>().join(" "),
        attempts.map(|attempts| format!("attempts: {attempts}")).unwrap_or_default(),
        text(step, "at").unwrap_or_default(),
    ]
}

fn probe(probe: &Value) -> Vec<String> {
    let seen = |seen: &Value| {
        let what = if seen.get("there") == Some(&Value::Bool(true)) { "there" } else { "gone" };
        [Some(what.to_owned()), text(seen, "status"), text(seen, "at")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let before = match probe.get("before").filter(|before| !before.is_null()) {
        Some(before) => format!("before: {}", seen(before)),
        None => "before: not seen yet".to_owned(),
    };
    let look = |look: &Value| match look.get("seen").filter(|seen| !seen.is_null()) {
        Some(found) => seen(found),
        None => format!("due {}", text(look, "due").unwrap_or_default()),
    };
    let looks: Vec<String> = probe.get("looks").and_then(Value::as_array).into_iter().flatten().map(look).collect();
    let after = if looks.is_empty() { String::new() } else { format!("after: {}", looks.join(", ")) };
    let remark = match (text(probe, "why"), probe.get("counts")) {
        (Some(why), _) => format!("parked: {why}"),
        (None, Some(Value::Bool(false))) => "does not count".to_owned(),
        (None, _) => String::new(),
    };
    vec![text(probe, "name").unwrap_or_default(), request(probe), before, after, remark]
}

fn event(event: &Value) -> Vec<String> {
    let by = event.get("by").map(party).map(|by| format!("by {by}")).unwrap_or_default();
    let place = match event.get("seq").and_then(Value::as_u64) {
        Some(seq) => format!("audit record {seq}"),
        None => "not in the audit log yet".to_owned(),
    };
    vec![
        text(event, "at").unwrap_or_default(),
        text(event, "event").unwrap_or_default(),
        text(event, "detail").unwrap_or_default(),
        by,
        place,
    ]
}

fn request(call: &Value) -> String {
    let parts = [text(call, "upstream"), text(call, "method"), text(call, "target")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn party(party: &Value) -> String {
    let kind = text(party, "party").unwrap_or_default();
    match text(party, "name") {
        Some(name) => format!("{kind} {name}"),
        None => kind,
    }
}

fn proof(proof: &Value) -> String {
    let list = |name: &str| {
        let names: Vec<&str> =
            proof.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        (!names.is_empty()).then(|| format!("{name}: {}", names.join(" ")))
    };
    let age = text(proof, "age_secs").map(|age| format!("{age}s old"));
    let parts = [text(proof, "acr").map(|acr| format!("acr: {acr}")), list("amr"), list("factors"), age];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn who(one: &Value) -> Option<String> {
    let issuer = text(one, "issuer").or_else(|| text(one, "issuer_url"))?;
    Some(match text(one, "subject") {
        Some(subject) => format!("{subject} of {issuer}"),
        None => format!("of {issuer}; the name is erased"),
    })
}

fn state(one: &Value) -> String {
    let mut state = text(one, "state").unwrap_or_default();
    let holds: Vec<String> =
        one.get("holds").and_then(Value::as_array).into_iter().flatten().filter_map(kind).collect();
    if !holds.is_empty() {
        state.push_str(&format!(" ({})", holds.join(", ")));
    }
    if one.get("parked") == Some(&Value::Bool(true)) {
        state.push_str(" (parked)");
    }
    state
}

/// The kind of a hold, in a list or in full.
fn kind(hold: &Value) -> Option<String> {
    hold.as_str().map(str::to_owned).or_else(|| text(hold, "hold"))
}

fn row(name: &str, value: Option<String>) -> [String; 2] {
    [name.to_owned(), value.unwrap_or_default()]
}

fn text(object: &Value, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Cells below each other, two spaces apart. A cell is one line: what others wrote into it cannot look like a row.
fn table<R: AsRef<[String]>>(rows: &[R], indent: &str) -> String {
    let plain = |cell: &String| cell.replace(char::is_control, " ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.as_ref().iter().map(plain).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
        let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        format!("{indent}{}", cells.join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table_with_one_heading() {
        let page = [
            json!({"id": "ab", "plan": "account", "state": "held", "holds": ["legal"], "requested_at": "2026-11-22T12:00:00Z",
                "held_until": "2026-12-22T12:00:00Z", "subject": "alice", "parked": false}),
            json!({"id": "cd", "plan": "account", "state": "carrying_out", "holds": [], "parked": true,
                "requested_at": "2026-11-22T12:00:01Z", "subject": null}),
        ];
        assert_eq!(
            list(&page, true),
            "ID  PLAN     STATE                  REQUESTED             NEXT                  SUBJECT\n\
             ab  account  held (legal)           2026-11-22T12:00:00Z  2026-12-22T12:00:00Z  alice\n\
             cd  account  carrying_out (parked)  2026-11-22T12:00:01Z"
        );
        assert!(!list(&page, false).contains("PLAN"));
    }

    #[test]
    fn what_somebody_wrote_into_a_cell_cannot_look_like_another_row() {
        let page = [json!({"id": "ab", "subject": "alice\n\u{1b}[2Jcd  account"})];
        assert_eq!(list(&page, false), "ab  alice  [2Jcd  account");
    }

    #[test]
    fn one_is_shown_whole_and_what_is_unknown_is_left_out() {
        let one = json!({"id": "ab", "plan": "account", "state": "carrying_out", "issuer": "main", "subject": "alice",
            "requested_by": {"party": "caller", "name": "root"}, "proof": {"amr": ["mfa"], "age_secs": 4},
            "holds": [{"hold": "legal", "at": "2026-11-22T12:00:00Z", "by": {"party": "operator", "name": "olga"}, "reason": "case 7"}],
            "steps": [{"name": "primary", "upstream": "api", "method": "DELETE", "target": "/a/{subject}", "state": "parked",
                "status": 403, "why": "refused", "attempts": 1}],
            "probes": [{"name": "account", "upstream": "api", "method": "GET", "target": "/a/{subject}", "counts": true,
                "before": {"status": 200, "at": "T", "there": true}, "looks": [{"due": "U", "seen": null}]}],
            "events": [{"at": "T", "event": "requested", "by": {"party": "owner"}, "seq": 7},
                {"at": "U", "event": "begun", "by": {"party": "gateway"}}]});
        let shown = whole(&one);
        for line in [
            "subject   alice of main",
            "asked by  caller root",
            "proof     amr: mfa, 4s old",
            "  legal  2026-11-22T12:00:00Z  by operator olga  case 7",
            "  primary  api DELETE /a/{subject}  parked 403 refused  attempts: 1",
            "  account  api GET /a/{subject}  before: there 200 T  after: due U",
            "  T  requested  by owner    audit record 7",
            "  U  begun      by gateway  not in the audit log yet",
        ] {
            assert!(shown.lines().any(|told| told == line), "{line}\n{shown}");
        }
        assert!(!shown.contains("begun_at") && !shown.contains("null"), "{shown}");
    }

    #[test]
    fn the_breaker_says_since_when_it_is_tripped_and_what_it_holds() {
        assert_eq!(breaker(&json!({"tripped_at": null, "held": 0})), "not tripped; 0 deletions are held by it");
        assert!(breaker(&json!({"tripped_at": "T", "held": 7})).starts_with("tripped since T"));
    }
}
