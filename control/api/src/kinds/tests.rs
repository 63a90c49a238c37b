//! What must hold for every kind that is served.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{KindOps, ops};
use crate::resources;

fn each(check: impl Fn(&str, &KindOps)) {
    for info in resources::RESOURCES {
        let name = format!("{}/{}/{}", info.group, info.version, info.resource);
        check(&name, ops(info.group, info.version, info.resource));
    }
}

/// Objects with little or nothing in them, as a client may send.
fn bare() -> [Value; 4] {
    let meta = json!({"name": "a", "namespace": "b", "uid": "c"});
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    [
        json!({}),
        json!({"metadata": meta}),
        json!({"metadata": meta, "spec": {}, "status": {}}),
        json!({"metadata": meta, "spec": {"template": template, "selector": {"matchLabels": {"a": "b"}},
            "ports": [{}], "rules": [{}], "metrics": [{}], "jobTemplate": {"spec": {"template": template}}},
            "rules": [{}], "subjects": [{}], "webhooks": [{}], "subsets": [{}], "endpoints": [{}], "ports": [{}]}),
    ]
}

#[test]
fn every_row_fits_its_columns() {
    each(|name, kind| {
        let Some(printer) = kind.printer else { return };
        for object in bare() {
            let cells = (printer.cells)(&object, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), printer.columns.len(), "{name} of {object}");
            for (cell, column) in cells.iter().zip(printer.columns) {
                assert!(
                    cell.is_string() || cell.is_number() || cell.is_boolean(),
                    "{name}: {} is {cell}",
                    column.name
                );
            }
        }
        assert!(printer.columns.iter().any(|column| column.format == "name"), "{name} shows no name");
    });
}

#[test]
fn defaults_are_filled_in_once_and_for_all() {
    each(|name, kind| {
        for mut object in bare() {
            (kind.default)(&mut object);
            let once = object.clone();
            (kind.default)(&mut object);
            assert_eq!(object, once, "{name}");
        }
    });
}

#[test]
fn nothing_bare_breaks_a_kind() {
    each(|_, kind| {
        for old in bare() {
            for mut new in bare() {
                (kind.prepare_create)(&mut new);
                let _ = (kind.validate_create)(&new);
                (kind.prepare_update)(&mut new, &old);
                let _ = (kind.validate_update)(&new, &old);
                (kind.prepare_status)(&mut new, &old);
                let _ = (kind.validate_status)(&new, &old);
                let _ = (kind.warnings)(&new);
            }
        }
    });
}

#[test]
fn what_was_accepted_can_be_written_again() {
    each(|name, kind| {
        for mut object in bare() {
            (kind.default)(&mut object);
            (kind.prepare_create)(&mut object);
            if (kind.validate_create)(&object).is_empty() {
                let mut same = object.clone();
                (kind.prepare_update)(&mut same, &object);
                assert_eq!(same, object, "{name}: an update without changes changed something");
                assert_eq!((kind.validate_update)(&same, &object), [], "{name} of {object}");
            }
        }
    });
}

#[test]
fn other_versions_come_back_from_the_store() {
    each(|name, kind| {
        let Some(stored) = kind.stored else { return };
        for mut object in bare() {
            (stored.to)(&mut object);
            (stored.from)(&mut object);
            let once = object.clone();
            (stored.to)(&mut object);
            (stored.from)(&mut object);
            assert_eq!(object, once, "{name}");
        }
    });
}
