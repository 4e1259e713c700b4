//! The JSON Schema (2020-12) of the configuration, for editors: completion, hovering documentation, red lines.
//! It is printed from the declarations that the document is decoded with. It knows forms, not meanings: that a name
//! exists, only `check` can tell.

use serde_json::{Map, Value, json};

use super::{
    document::Document,
    shape::{FieldShape, SectionShape, Shape, TextShape},
    yaml::{self, Node},
};

/// How `${NAME}` looks in a scalar.
const ENV: &str = r".*\$\{[A-Za-z_][A-Za-z0-9_]*\}.*";

/// The schema of `gateway.yaml`.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let root = section_schema(&Document::section(), &mut definitions);
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("Stepgate configuration"));
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("$defs".into(), Value::Object(definitions));
    Value::Object(schema)
}

/// A section's name without its article, for `$defs` and anchors.
pub(super) fn slug(title: &str) -> String {
    let name = title.strip_prefix("a ").or_else(|| title.strip_prefix("an ")).unwrap_or(title);
    name.replace(' ', "_")
}

fn section_schema(section: &SectionShape, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in &section.fields {
        properties.insert(field.key.into(), field_schema(field, definitions));
    }
    let required: Vec<&str> = section.fields.iter().filter(|field| field.required).map(|field| field.key).collect();
    let mut schema = Map::new();
    schema.insert("description".into(), json!(section.about));
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    Value::Object(schema)
}

fn field_schema(field: &FieldShape, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = match shape_schema(&field.shape, definitions) {
        Value::Object(schema) => schema,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    schema.insert("description".into(), json!(field.about));
    let default = field.default.filter(|default| *default != "{}").and_then(|default| yaml::parse(default).root);
    if let Some(default) = default {
        schema.insert("default".into(), default_value(&default));
    }
    Value::Object(schema)
}

fn shape_schema(shape: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Bool => json!({"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": anchored(ENV)}]}),
        Shape::Integer { min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": anchored(ENV)},
        ]}),
        Shape::Json => json!({}),
        Shape::Text(text) => text_schema(text),
        Shape::Words(words) => words_schema(words),
        Shape::List { item, min } => {
            json!({"type": "array", "items": shape_schema(item, definitions), "minItems": min})
        }
        Shape::Named(item) => json!({
            "type": "object",
            "propertyNames": {"pattern": anchored("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"), "not": {"const": "none"}},
            "additionalProperties": shape_schema(item, definitions),
        }),
        Shape::Keyed { key, item } => json!({
            "type": "object",
            "propertyNames": shape_schema(key, definitions),
            "additionalProperties": shape_schema(item, definitions),
        }),
        Shape::Section(section) => {
            let name = slug(section.title);
            if !definitions.contains_key(&name) {
                let schema = section_schema(section, definitions);
                definitions.insert(name.clone(), schema);
            }
            json!({"$ref": format!("#/$defs/{name}")})
        }
        Shape::Either(shapes) => {
            let schemas: Vec<Value> = shapes.iter().map(|shape| shape_schema(shape, definitions)).collect();
            json!({"anyOf": schemas})
        }
    }
}

fn text_schema(text: &TextShape) -> Value {
    match text.pattern {
        // Editors read `17`, `1.2` and `true` as what they look like; here they are texts like any other.
        None => json!({"type": ["string", "number", "boolean"], "description": text.about}),
        Some(pattern) => json!({
            "type": ["string", "number"],
            "description": text.about,
            "pattern": anchored(&format!("{pattern}|{ENV}")),
        }),
    }
}

fn words_schema(words: &[(&'static str, &'static str)]) -> Value {
    let mut options: Vec<Value> =
        words.iter().map(|(word, about)| json!({"const": word, "description": about})).collect();
    for (word, about) in words {
        if let Ok(number) = word.parse::<f64>() {
            options.push(json!({"const": number, "description": about}));
        }
    }
    options.push(json!({"type": "string", "pattern": anchored(ENV)}));
    json!({"anyOf": options})
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn default_value(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Null | yaml::Value::Faulty => Value::Null,
        yaml::Value::Scalar(scalar) => match scalar.text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
        },
        yaml::Value::List(items) => items.iter().map(default_value).collect(),
        yaml::Value::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), default_value(&entry.node))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::config::decode::Decode;

    #[test]
    fn the_schema_closes_every_section_and_resolves_every_reference() {
        let schema = schema();
        let definitions = schema["$defs"].as_object().unwrap();
        assert_eq!(schema["required"], json!(["upstreams", "routes"]));
        for (name, definition) in definitions {
            assert_eq!(definition["additionalProperties"], json!(false), "{name}");
        }
        let text = schema.to_string();
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name}");
        }
    }

    #[test]
    fn sections_of_one_name_are_one_section() {
        fn walk(shape: &Shape, seen: &mut Vec<(String, Vec<&'static str>)>) {
            match shape {
                Shape::Section(section) => {
                    let keys: Vec<_> = section.fields.iter().map(|field| field.key).collect();
                    let name = slug(section.title);
                    if let Some((_, other)) = seen.iter().find(|(known, _)| *known == name) {
                        assert_eq!(other, &keys, "{name}");
                    }
                    seen.push((name, keys));
                    section.fields.iter().for_each(|field| walk(&field.shape, seen));
                }
                Shape::List { item, .. } | Shape::Named(item) | Shape::Keyed { item, .. } => walk(item, seen),
                Shape::Either(shapes) => shapes.iter().for_each(|shape| walk(shape, seen)),
                Shape::Bool | Shape::Integer { .. } | Shape::Json | Shape::Text(_) | Shape::Words(_) => {}
            }
        }
        walk(&Document::shape(), &mut Vec::new());
    }
}
