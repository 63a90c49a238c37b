//! Which change of a container's spec needs a new container.

use k8s_openapi::api::core::v1::Container;

/// Hash of the fields that cannot change under a running container: its name and image, as upstream's.
///
/// Written to the runtime as an annotation, so it must mean the same in every later version of this code.
pub fn container_hash(container: &Container) -> String {
    let fields = serde_json::json!({ "name": container.name, "image": container.image });
    let hash = fields
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}
