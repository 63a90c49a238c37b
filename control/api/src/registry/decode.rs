//! Request bodies to trees.

use coracle_schema::{TypeRef, json, proto, yaml};
use serde_json::Value;

use super::Resource;
use crate::call::Call;
use crate::error::{ApiError, Outcome};
use coracle_apimachinery::Status;
use coracle_schema::json::FieldValidation as Validation;

/// Media types of objects in requests.
pub const MEDIA: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The type a body must have.
#[derive(Clone)]
pub struct Expected {
    /// Its type.
    pub ty: TypeRef,
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: &'static str,
}

impl Expected {
    /// An object of a resource.
    pub fn of(resource: &Resource) -> Self {
        Self { ty: resource.ty.clone(), api_version: resource.info.api_version(), kind: resource.info.kind }
    }

    /// A kind that is not a resource's own, e.g. `autoscaling/v1.Scale`.
    pub fn kind(group: &str, version: &str, kind: &'static str) -> Outcome<Self> {
        let ty = coracle_schema::lookup(group, version, kind)
            .ok_or_else(|| ApiError::internal(format!("kind {kind} is not in the schema")))?;
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        Ok(Self { ty, api_version, kind })
    }

    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
    }

    fn refuse(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {why}",
            self.kind,
            self.version(),
            self.kind
        ))
    }

    /// Decodes a body of this type.
    pub fn body(&self, call: &Call, validation: Validation) -> Outcome<Value> {
        self.bytes(call, &call.content_type, &call.body, validation)
    }

    /// Decodes bytes of this type in one of the media types.
    pub fn bytes(&self, call: &Call, media: &str, body: &[u8], validation: Validation) -> Outcome<Value> {
        let mut value = match media {
            "" | "application/json" | "text/json" => {
                if body.is_empty() {
                    return Err(ApiError::bad_request(format!(
                        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; \
                         json parse error: unexpected end of JSON input (<empty>)",
                        self.kind
                    )));
                }
                self.accept(call, json::decode(&self.ty, body, validation))?
            }
            "application/yaml" | "application/x-yaml" => {
                self.accept(call, yaml::decode(&self.ty, body, validation))?
            }
            "application/vnd.kubernetes.protobuf" => {
                let envelope =
                    proto::split_envelope(body).map_err(|err| ApiError::bad_request(err.to_string()))?;
                let mut value = proto::decode(&self.ty, envelope.raw).map_err(|err| self.refuse(err))?;
                if let Some(map) = value.as_object_mut() {
                    for (name, text) in [("apiVersion", &envelope.api_version), ("kind", &envelope.kind)] {
                        if !text.is_empty() {
                            map.insert(name.to_owned(), text.to_string().into());
                        }
                    }
                }
                value
            }
            _ => return Err(Status::unsupported_media_type(&MEDIA).into()),
        };
        self.check_kind(&mut value)?;
        Ok(value)
    }

    fn accept(&self, call: &Call, decoded: Result<json::Decoded, json::DecodeError>) -> Outcome<Value> {
        let decoded = decoded.map_err(|err| self.refuse(err))?;
        for warning in decoded.warnings {
            call.warn(warning);
        }
        Ok(decoded.value)
    }

    /// Fills in version and kind, or refuses others.
    pub fn check_kind(&self, value: &mut Value) -> Outcome<()> {
        let map = value.as_object_mut().ok_or_else(|| self.refuse("the body is not an object"))?;
        let given = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (given("apiVersion"), given("kind"));
        if !kind.is_empty() && kind != self.kind {
            let version = api_version.rsplit('/').next().unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {}: converting ({api_version}, \
                 Kind={kind}) to ({}, Kind={}): unknown conversion",
                self.kind, self.api_version, self.kind
            )));
        }
        if !api_version.is_empty() && api_version != self.api_version {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({})",
                self.api_version
            )));
        }
        map.insert("apiVersion".to_owned(), self.api_version.clone().into());
        map.insert("kind".to_owned(), self.kind.into());
        Ok(())
    }
}

/// Defaults of the table and of the kind.
pub fn defaults(resource: &Resource, value: &mut Value) {
    coracle_schema::defaults::apply(&resource.ty, value);
    (resource.ops.default)(value);
}
