//! The sample API: orders, payments, reports and accounts in memory. It knows nothing of tokens, as its kind does.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::answer;
use crate::body::{ConnectionInfo, Received, RequestBody, ResponseBody, Serve};

/// The longest body that is read.
const BODY_BYTES: u64 = 64 << 10;

/// Who has an account.
pub(super) const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// All that the API holds.
#[derive(Debug)]
pub(super) struct OrdersApi {
    orders: Mutex<(u64, BTreeMap<u64, Value>)>,
    accounts: Mutex<BTreeSet<String>>,
}

impl Default for OrdersApi {
    fn default() -> Self {
        let orders = ["apples", "pears", "quinces"];
        let orders = (1..).zip(orders).map(|(id, item)| (id, json!({"id": id, "item": item, "quantity": 3}))).collect();
        Self { orders: Mutex::new((3, orders)), accounts: Mutex::new(PEOPLE.map(str::to_owned).into()) }
    }
}

/// The API on one worker.
pub(super) struct Endpoint(pub(super) Arc<OrdersApi>);

impl Serve for Endpoint {
    type Tail = ();

    async fn serve(&self, info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<()>> {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body, &info.watch, BODY_BYTES);
        let Ok(body) = body.read_whole(BODY_BYTES).await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, json!({"error": "body too large"}));
        };
        let text = String::from_utf8_lossy(&body);
        self.0.handle(&head.method, head.uri.path(), &text)
    }
}

impl OrdersApi {
    fn handle(&self, method: &Method, path: &str, body: &str) -> Response<ResponseBody<()>> {
        if let Some(name) = path.strip_prefix("/accounts/") {
            return self.account(method, name);
        }
        let mut state = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, orders) = &mut *state;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", ["health"]) => plain(StatusCode::OK, json!({"status": "up"})),
            ("GET" | "HEAD", ["orders"]) => plain(StatusCode::OK, orders.values().cloned().collect()),
            ("GET" | "HEAD", ["orders", id]) => match id.parse().ok().and_then(|id: u64| orders.get(&id)) {
                Some(order) => plain(StatusCode::OK, order.clone()),
                None => missing(),
            },
            ("POST", ["orders"]) => {
                *last += 1;
                let order = json!({"id": *last, "item": body, "quantity": 1});
                orders.insert(*last, order.clone());
                plain(StatusCode::CREATED, order)
            }
            ("DELETE", ["orders", id]) => match id.parse().ok().and_then(|id: u64| orders.remove(&id)) {
                Some(_) => answer(StatusCode::NO_CONTENT, "application/json", ""),
                None => missing(),
            },
            ("POST", ["account", "delete"]) => {
                orders.clear();
                plain(StatusCode::OK, json!({"account": "deleted"}))
            }
            ("GET" | "HEAD", ["payments"]) => plain(StatusCode::OK, json!([])),
            ("POST", ["payments"]) => plain(StatusCode::CREATED, json!({"paid": body})),
            ("GET" | "HEAD", ["reports"] | ["reports", _]) => {
                plain(StatusCode::OK, json!({"orders": orders.len(), "path": path}))
            }
            _ => missing(),
        }
    }
}

impl OrdersApi {
    /// Deletes at once, for good, at anybody's word, as its kind does.
    fn account(&self, method: &Method, name: &str) -> Response<ResponseBody<()>> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        match method.as_str() {
            "GET" | "HEAD" if accounts.contains(name) => plain(StatusCode::OK, json!({"account": name})),
            "DELETE" if accounts.remove(name) => answer(StatusCode::NO_CONTENT, "application/json", ""),
            _ => missing(),
        }
    }
}

fn missing() -> Response<ResponseBody<()>> {
    plain(StatusCode::NOT_FOUND, json!({"error": "not found"}))
}

fn plain(status: StatusCode, body: Value) -> Response<ResponseBody<()>> {
    answer(status, "application/json", format!("{body}\n"))
}
