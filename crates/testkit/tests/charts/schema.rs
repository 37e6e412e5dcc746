//! `values.schema.json`: what Helm refuses before it renders anything. A name that no chart knows is
//! most often a name misspelt, and would do nothing.

use crate::{
    UMBRELLA,
    values::{Chart, Entry},
};
use serde_json::{Map, Value, json};

/// The schema of a chart. `globals` are those of all charts, because Helm hands them to each.
pub(crate) fn of_chart(chart: &Chart, globals: &[Entry]) -> String {
    let mut properties = properties(&chart.entries);
    properties.insert("global".into(), closed(globals));
    if chart.name == UMBRELLA {
        // The schema of each part says more of it.
        for entry in chart.entries.iter().filter(|entry| entry.key != "global") {
            properties.insert(entry.key.clone(), json!({ "type": "object" }));
        }
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("Values of chart {}", chart.name),
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    serde_json::to_string_pretty(&schema).expect("it is plain data") + "\n"
}

fn properties(entries: &[Entry]) -> Map<String, Value> {
    entries.iter().map(|entry| (entry.key.clone(), of_entry(entry))).collect()
}

fn closed(entries: &[Entry]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties(entries) })
}

fn of_entry(entry: &Entry) -> Value {
    if !entry.children.is_empty() {
        return closed(&entry.children);
    }
    let mut schema = if let Some(words) = entry.form("enum") {
        json!({ "enum": words })
    } else if let Some(types) = entry.form("type") {
        json!({ "type": types })
    } else if let Some(types) = entry.form("map") {
        json!({ "type": "object", "additionalProperties": { "type": types } })
    } else {
        match &entry.default {
            Value::Bool(_) => json!({ "type": "boolean" }),
            Value::Number(number) if number.is_f64() => json!({ "type": "number" }),
            Value::Number(_) => json!({ "type": "integer" }),
            Value::String(_) => json!({ "type": "string" }),
            Value::Array(_) => match entry.form("items") {
                Some(types) => json!({ "type": "array", "items": { "type": types } }),
                None => json!({ "type": "array", "items": { "type": "object" } }),
            },
            Value::Object(_) => json!({ "type": "object" }),
            Value::Null => panic!("{}: a default of null needs a comment @type", entry.key),
        }
    };
    if let Some([least]) = entry.form("min") {
        schema["minimum"] = json!(least.parse::<i64>().expect("@min is a number"));
    }
    schema["description"] = entry.about.as_str().into();
    schema
}
