//! What a type of the API is: its fields, their shapes, and the marks that steer codecs, patches and ownership.
//!
//! The built-in types are read from the table on first use and never freed; those of custom resources are built at
//! run time out of the same parts and shared by [`Arc`].

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::table;

/// A name that lives in the table or was made at run time.
pub type Name = Cow<'static, str>;

/// A message: an object with known fields.
#[derive(Debug, Default)]
pub struct Type {
    /// Package, version and name as in the table: `core/v1.Pod`.
    pub name: Name,
    /// In the order in which they are printed. An inlined struct stands as one nameless field.
    pub fields: Box<[Field]>,
    /// Whether it has `kind` and `apiVersion` of its own.
    pub is_root: bool,
    /// Owned as a whole in server-side apply, unless the field that holds it says otherwise.
    pub is_atomic: bool,
    /// Keeps fields that it does not know (custom resources only).
    pub keeps_unknown: bool,
    /// How many named fields there are, inlined ones counted.
    pub width: usize,
    /// What is looked up often.
    index: Index,
}

/// Places of fields, for who looks them up.
#[derive(Debug, Default)]
struct Index {
    /// In order of their names; empty where walking over all is as quick, or there are inlined structs.
    by_name: Box<[u16]>,
    /// By protobuf number, counted from one; zero: none.
    by_tag: Box<[u16]>,
    /// Those that are printed also when they are absent.
    shown: Box<[u16]>,
}

/// A field of a message.
#[derive(Debug, Default)]
pub struct Field {
    /// The name in JSON; empty for an inlined struct.
    pub json: Name,
    /// The number in protobuf; 0: not there.
    pub tag: u32,
    /// One value, a list of them, or a map of them by string.
    pub shape: Shape,
    /// What one value is.
    pub kind: Kind,
    /// Left out of JSON when it is empty (Go's `omitempty`).
    pub omitempty: bool,
    /// Absent and empty differ (a pointer in Go).
    pub pointer: bool,
    /// Left out of JSON when it is zero, also as a struct (Go's `omitzero`).
    pub omitzero: bool,
    /// Must be given, as OpenAPI tells it.
    pub required: bool,
    /// An inlined struct: its fields stand in the parent in JSON, in a message of its own in protobuf.
    pub inline: bool,
    /// Map or struct owned as a whole in server-side apply.
    pub atomic: bool,
    /// Not owned as a whole, although its type is.
    pub granular: bool,
    /// Objects in it show their kind, which protobuf does not keep.
    pub typed: bool,
    /// How a list is owned and merged in server-side apply.
    pub list: ListType,
    /// What identifies an item of a list of type map.
    pub keys: Box<[Name]>,
    /// How strategic merge treats it.
    pub patch: PatchStrategy,
    /// What identifies an item in strategic merge.
    pub merge_key: Option<Name>,
    /// The value it takes when it is absent.
    pub default: Option<Box<Value>>,
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// One.
    #[default]
    One,
    /// An ordered list.
    List,
    /// A map by string.
    Map,
}

/// What one value is.
#[derive(Debug, Clone, Default)]
pub enum Kind {
    /// Text.
    #[default]
    String,
    /// True or false.
    Bool,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// A floating point number.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// An amount: `100m`.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// A time in whole seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// A Go duration: `1m0s`.
    Duration,
    /// Any object, kept as it is.
    Raw,
    /// Any JSON value, kept as it is (bytes in protobuf).
    Json,
    /// A list of texts that is a message of its own in protobuf.
    Strings,
    /// A JSON schema or a list of them.
    SchemaOrArray,
    /// A JSON schema or a bool.
    SchemaOrBool,
    /// A JSON schema or a list of names.
    SchemaOrStrings,
    /// An object with known fields.
    Message(TypeRef),
    /// A list or map inside of a list or map (custom resources only).
    Nested(Arc<Field>),
}

/// How a list is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// Not said: as atomic in server-side apply, unmarked in OpenAPI.
    #[default]
    Unset,
    /// As a whole.
    Atomic,
    /// Each scalar for itself.
    Set,
    /// Each item by its keys.
    Map,
}

/// How strategic merge treats a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged, not replaced.
    pub merge: bool,
    /// Siblings not named are cleared.
    pub retain_keys: bool,
    /// Replaced even where merging is the rule.
    pub replace: bool,
}

/// A type of the table, or a shared one.
#[derive(Debug, Clone)]
pub enum TypeRef {
    /// By its place in the table.
    Builtin(u16),
    /// Made at run time.
    Shared(Arc<Type>),
}

impl Deref for TypeRef {
    type Target = Type;

    fn deref(&self) -> &Type {
        match self {
            Self::Builtin(at) => table::at(*at),
            Self::Shared(ty) => ty,
        }
    }
}

impl Type {
    /// A type of these fields, made at run time.
    pub fn new(name: impl Into<Name>, fields: Vec<Field>) -> Self {
        let mut ty = Self { name: name.into(), fields: fields.into(), ..Self::default() };
        ty.width = ty.fields.iter().map(|field| field.inlined().map_or(1, |inner| inner.width)).sum();
        ty.index = Index::of(&ty.fields);
        ty
    }

    /// The field of this JSON name, looked for in inlined structs too.
    pub fn field(&self, json: &str) -> Option<&Field> {
        self.place(json).map(|(_, field)| field)
    }

    /// The field of this JSON name and its place among all `width` named ones.
    pub fn place(&self, json: &str) -> Option<(usize, &Field)> {
        if !self.index.by_name.is_empty() {
            let name = |at: &u16| self.fields[usize::from(*at)].json.as_ref();
            let found = self.index.by_name.binary_search_by(|at| name(at).cmp(json)).ok()?;
            let at = usize::from(self.index.by_name[found]);
            return Some((at, &self.fields[at]));
        }
        let mut before = 0;
        for field in &self.fields {
            match field.inlined() {
                Some(inner) => {
                    if let Some((at, found)) = inner.place(json) {
                        return Some((before + at, found));
                    }
                    before += inner.width;
                }
                None if field.json == json => return Some((before, field)),
                None => before += 1,
            }
        }
        None
    }

    /// Calls `visit` with each named field, those of inlined structs in their place.
    pub fn each_field<'t>(&'t self, visit: &mut dyn FnMut(&'t Field)) {
        for field in &self.fields {
            match field.inlined() {
                Some(inner) => inner.each_field(visit),
                None => visit(field),
            }
        }
    }

    /// The field of this protobuf number.
    pub fn tag(&self, tag: u32) -> Option<(usize, &Field)> {
        let at = usize::from(*self.index.by_tag.get(usize::try_from(tag).ok()?)?).checked_sub(1)?;
        Some((at, &self.fields[at]))
    }

    /// The fields that are printed also when they are absent, by their places.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.index.shown.iter().map(|at| (usize::from(*at), &self.fields[usize::from(*at)]))
    }

    /// The name without package: `Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The name as Go prints it: `v1.Pod`.
    pub fn go_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// The apiVersion of a built-in root type: `core/v1.PersistentVolumeClaim` -> `v1`.
    pub fn api_version(&self) -> String {
        let Some((package, rest)) = self.name.split_once('/') else { return String::new() };
        let version = rest.split('.').next().unwrap_or_default();
        match table::group_of(package) {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// Sets the kind of an object of this type.
    pub(crate) fn set_kind(&self, object: &mut Map<String, Value>) {
        object.insert("kind".into(), Value::String(self.short_name().to_owned()));
        object.insert("apiVersion".into(), Value::String(self.api_version()));
    }

    /// The type of the items, when this is a list kind (`PodList` -> `Pod`).
    pub fn items(&self) -> Option<&TypeRef> {
        match self.fields.iter().find(|field| field.json == "items") {
            Some(Field { shape: Shape::List, kind: Kind::Message(item), .. }) if self.is_root => Some(item),
            _ => None,
        }
    }
}

impl Index {
    fn of(fields: &[Field]) -> Self {
        let places = || 0..u16::try_from(fields.len()).unwrap_or(u16::MAX);
        let field = |at: &u16| &fields[usize::from(*at)];
        let mut by_name: Vec<u16> = Vec::new();
        if fields.len() > 6 && !fields.iter().any(|field| field.inline) {
            by_name.extend(places());
            by_name.sort_by(|left, right| field(left).json.cmp(&field(right).json));
        }
        // only built-in types have numbers, and theirs are small
        let end = fields.iter().map(|field| field.tag as usize + 1).max().unwrap_or(0);
        let mut by_tag = vec![0; if end == 1 { 0 } else { end }];
        for at in places().filter(|at| field(at).tag != 0) {
            by_tag[field(&at).tag as usize] = at + 1;
        }
        let shown = places().filter(|at| {
            let field = field(at);
            field
                .inlined()
                .map_or_else(|| crate::json::is_shown(field), |inner| !inner.index.shown.is_empty())
        });
        Self { by_name: by_name.into(), by_tag: by_tag.into(), shown: shown.collect() }
    }
}

impl Field {
    /// The struct whose fields stand in the parent, if this is one.
    pub fn inlined(&self) -> Option<&Type> {
        match &self.kind {
            Kind::Message(inner) if self.inline => Some(inner),
            _ => None,
        }
    }

    /// The message type of one value, if it is one.
    pub fn message(&self) -> Option<&Type> {
        match &self.kind {
            Kind::Message(inner) => Some(inner),
            _ => None,
        }
    }

    /// Whether server-side apply owns the whole value at once.
    pub fn is_atomic(&self) -> bool {
        match self.shape {
            Shape::List => matches!(self.list, ListType::Unset | ListType::Atomic),
            Shape::Map => self.atomic,
            Shape::One => match &self.kind {
                Kind::Message(inner) => !self.granular && (self.atomic || inner.is_atomic),
                _ => true,
            },
        }
    }

    /// The Go type as error texts name it: `[]v1.Container`, `map[string]string`, `int32`.
    pub fn go_type(&self, element: bool) -> String {
        let one = self.kind.go_type();
        match self.shape {
            Shape::List if !element => format!("[]{one}"),
            Shape::Map if !element => format!("map[string]{one}"),
            _ => one,
        }
    }
}

impl Kind {
    /// The Go type of one value.
    pub fn go_type(&self) -> String {
        match self {
            Self::String => "string",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Double => "float64",
            Self::Bytes => "[]uint8",
            Self::Quantity => "resource.Quantity",
            Self::IntOrString => "intstr.IntOrString",
            Self::Time => "v1.Time",
            Self::MicroTime => "v1.MicroTime",
            Self::Duration => "v1.Duration",
            Self::Raw => "runtime.RawExtension",
            Self::Json => "v1.JSON",
            Self::Strings => "[]string",
            Self::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
            Self::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
            Self::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
            Self::Message(ty) => return ty.go_name().to_owned(),
            Self::Nested(field) => return field.go_type(false),
        }
        .to_owned()
    }
}
