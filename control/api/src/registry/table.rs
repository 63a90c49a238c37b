//! Server-printed tables.

use coracle_apimachinery::time;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Resource;
use crate::error::Outcome;
use crate::http::info::Query;
use crate::kinds::{Column, Printer};
use crate::value;

const NAME_TEXT: &str = "Name must be unique within a namespace.";
const CREATED_TEXT: &str = "When the object came to be.";

const PLAIN: Printer = Printer {
    columns: &[
        Column { name: "Name", kind: "string", format: "name", priority: 0, description: NAME_TEXT },
        Column { name: "Created At", kind: "date", format: "", priority: 0, description: CREATED_TEXT },
    ],
    cells: plain_cells,
};

fn plain_cells(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![value::name(object).into(), value::text(object, "/metadata/creationTimestamp").into()]
}

/// What of the object stands in each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// From the query.
    pub fn parse(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

fn printer(resource: &Resource) -> Printer {
    resource.ops.printer.unwrap_or(PLAIN)
}

/// The columns as JSON.
pub fn columns(resource: &Resource) -> Value {
    let columns = printer(resource).columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    columns.collect()
}

/// One row.
pub fn row(resource: &Resource, object: &Value, include: Include) -> Value {
    let cells = (printer(resource).cells)(object, Timestamp::now());
    match include {
        Include::None => json!({ "cells": cells }),
        Include::Metadata => json!({ "cells": cells, "object": partial(object) }),
        Include::Object => json!({ "cells": cells, "object": object }),
    }
}

/// The object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// A table of these objects.
pub fn table<'a>(
    resource: &Resource,
    metadata: Value,
    objects: impl Iterator<Item = Outcome<Value>> + 'a,
    include: Include,
) -> Outcome<Value> {
    let rows: Outcome<Vec<Value>> =
        objects.map(|object| object.map(|object| row(resource, &object, include))).collect();
    Ok(json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns(resource),
        "rows": rows?,
    }))
}

/// How long ago, as tables show it.
pub fn age(object: &Value, now: Timestamp) -> String {
    match time::parse(value::text(object, "/metadata/creationTimestamp")) {
        None => "<unknown>".to_owned(),
        Some(then) => coracle_apimachinery::duration::human(time::seconds_between(then, now)),
    }
}
