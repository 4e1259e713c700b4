//! Descriptions of the gateway's own APIs (OpenAPI 3.1), made of what calls are dispatched from.

use serde_json::{Map, Value, json};

/// An operation as the document describes it.
#[derive(Debug, Clone)]
pub struct Described {
    /// A name of its own.
    pub id: String,
    /// The method, lower case.
    pub method: String,
    /// The path below the API's own; `{id}` stands for one segment.
    pub path: String,
    /// Whether it needs a credential.
    pub needs_credential: bool,
    /// A line.
    pub summary: String,
    /// The request's body: its media type and schema.
    pub request: Option<(&'static str, Value)>,
    /// Answers that do what was asked: status, schema of the body in JSON.
    pub responses: Vec<(u16, &'static str, Option<Value>)>,
}

/// What a document is of.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// A title.
    pub title: &'static str,
    /// A few sentences.
    pub description: &'static str,
}

/// The document of operations below a URL; `schemas` are further ones, by name.
pub fn document(about: About, base: &str, operations: &[Described], schemas: Value) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.clone(), one(operation));
        }
    }
    let mut all = json!({
        "Problem": {
            "type": "object",
            "description": "RFC 9457",
            "required": ["type", "title", "status"],
            "properties": {
                "type": {"type": "string", "format": "uri"}, "title": text(), "status": {"type": "integer"},
                "detail": text(), "request_id": text(),
                "retry_after": {"type": "integer"},
            },
        },
    });
    if let (Some(all), Value::Object(further)) = (all.as_object_mut(), schemas) {
        all.extend(further);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": about.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "credential": {"type": "http", "scheme": "bearer", "description": "The caller's own access token."},
            },
            "schemas": all,
            "responses": {
                "Problem": {
                    "description": "Nothing was done: `type` says why.",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
        },
    })
}

fn one(operation: &Described) -> Value {
    let mut responses = Map::new();
    for (status, description, schema) in &operation.responses {
        let mut response = json!({"description": description});
        if let (Some(schema), Some(response)) = (schema, response.as_object_mut()) {
            response.insert("content".to_owned(), json!({"application/json": {"schema": schema}}));
        }
        responses.insert(status.to_string(), response);
    }
    responses.insert("default".to_owned(), json!({"$ref": "#/components/responses/Problem"}));
    let security = if operation.needs_credential { json!([{"credential": []}]) } else { json!([]) };
    let mut value = json!({
        "operationId": operation.id, "summary": operation.summary, "security": security, "responses": responses,
    });
    let Some(object) = value.as_object_mut() else { return value };
    if operation.path.contains("{id}") {
        let parameter = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]);
        object.insert("parameters".to_owned(), parameter);
    }
    if let Some((media, schema)) = &operation.request {
        let content = Map::from_iter([((*media).to_owned(), json!({"schema": schema}))]);
        object.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    value
}

/// A string.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// A time.
pub fn moment() -> Value {
    json!({"type": "integer", "description": "Seconds since the epoch."})
}

/// Something of a kind, or null.
pub fn optional(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

/// An object, and which of its members are always there.
pub fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}
