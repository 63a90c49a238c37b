//! The defaults that the table knows: constants of single fields. What depends on other fields is up to each kind.

use serde_json::{Map, Value};

use crate::types::{Field, Kind, Shape, Type};

/// Gives every absent field that has a default its value, as deep as the object goes.
pub fn apply(ty: &Type, value: &mut Value) {
    if let Value::Object(map) = value {
        object(ty, map);
    }
}

fn object(ty: &Type, map: &mut Map<String, Value>) {
    for field in &ty.fields {
        if let Some(inner) = field.inlined() {
            object(inner, map);
            continue;
        }
        if let Some(value) = map.get_mut(field.json.as_ref()) {
            below(field, value);
        } else if let Some(default) =
            field.default.as_deref().filter(|it| !crate::json::is_dropped(field, it))
        {
            map.insert(field.json.clone().into_owned(), default.clone());
        }
    }
}

fn below(field: &Field, value: &mut Value) {
    match (field.shape, value) {
        (Shape::One, value) => one(&field.kind, value),
        (Shape::List, Value::Array(list)) => list.iter_mut().for_each(|item| one(&field.kind, item)),
        (Shape::Map, Value::Object(map)) => map.values_mut().for_each(|item| one(&field.kind, item)),
        _ => {}
    }
}

fn one(kind: &Kind, value: &mut Value) {
    match kind {
        Kind::Message(ty) => apply(ty, value),
        Kind::Nested(field) => below(field, value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn absent_fields_take_their_defaults() {
        let ty = crate::lookup("", "v1", "Service").unwrap();
        let mut service = json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}});
        super::apply(&ty, &mut service);
        assert_eq!(
            service,
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}})
        );
    }
}
