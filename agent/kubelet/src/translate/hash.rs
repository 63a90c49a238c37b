//! The hash by which a container's change is noticed: of its name and image, as upstream's kubelet writes it.

use coracle_apimachinery::hash::fnv32a;
use k8s_openapi::api::core::v1::Container;

/// In hexadecimal, as it stands in the annotation.
pub fn container_hash(container: &Container) -> String {
    // The bytes that Go's encoder makes of {"image", "name"}: keys in order, <, > and & escaped.
    let quoted = |text: &str| {
        let text = serde_json::Value::from(text).to_string();
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    let image = container.image.as_deref().unwrap_or_default();
    let json = format!("{{\"image\":{},\"name\":{}}}", quoted(image), quoted(&container.name));
    format!("{:x}", fnv32a(json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_name_and_image_count() {
        let hash = |text: &str| container_hash(&serde_json::from_str(text).unwrap());
        let one = hash(r#"{"name":"a","image":"b"}"#);
        assert_eq!(one, format!("{:x}", fnv32a(br#"{"image":"b","name":"a"}"#)));
        assert_eq!(one, hash(r#"{"name":"a","image":"b","tty":true}"#));
        assert_ne!(one, hash(r#"{"name":"a","image":"c"}"#));
    }
}
