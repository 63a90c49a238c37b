//! OpenAPI documents, made from the table: version 3 per group version with its index, version 2 as a whole.
//!
//! A document is written when it is first asked for, piece by piece into a compressor; only the compressed bytes stay.

mod descriptions; // what the fields are for
mod operations; // the paths of a resource
mod schemas; // the definitions of types

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read as _, Write};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use descriptions::Descriptions;
use schemas::Definitions;

/// Which version of OpenAPI is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    V2,
    V3,
}

/// A resource or subresource that is served.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty: core.
    pub group: Cow<'static, str>,
    /// Version of the group.
    pub version: Cow<'static, str>,
    /// As in URLs: `pods`, `pods/status`.
    pub name: Cow<'static, str>,
    /// Group of the kind, which for a subresource may be another one.
    pub kind_group: Cow<'static, str>,
    /// Version of the kind.
    pub kind_version: Cow<'static, str>,
    /// The kind it takes and gives.
    pub kind: Cow<'static, str>,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// `get`, `list`, `create` and so on.
    pub verbs: Cow<'static, [&'static str]>,
}

impl Resource {
    /// The path of the group version: `api/v1`, `apis/apps/v1`.
    fn root(&self) -> String {
        if self.group.is_empty() {
            format!("api/{}", self.version)
        } else {
            format!("apis/{}/{}", self.group, self.version)
        }
    }
}

/// A finished document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its JSON, gzipped: to be sent as it is to who takes `gzip`.
    pub gzip: Bytes,
    /// Changes with its content.
    pub etag: String,
}

impl Document {
    /// Its JSON, for who takes no gzip.
    pub fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        // the bytes are our own: they can be inflated
        _ = GzDecoder::new(self.gzip.as_ref()).read_to_end(&mut json);
        json
    }
}

/// The documents of a set of resources.
#[derive(Debug)]
pub struct OpenApi {
    version: String,
    resources: Vec<Resource>,
    /// By path of the group version; version 2 under the empty one.
    written: Mutex<BTreeMap<String, Document>>,
}

impl OpenApi {
    /// Documents for these resources of a server of this version (`v1.36.0`).
    pub fn new(version: impl Into<String>, resources: Vec<Resource>) -> Self {
        Self { version: version.into(), resources, written: Mutex::default() }
    }

    /// The index at `/openapi/v3`.
    pub fn v3_index(&self) -> Vec<u8> {
        let mut paths = serde_json::Map::new();
        for resource in &self.resources {
            let root = resource.root();
            if !paths.contains_key(&root) {
                let hash = self.hash(&root);
                paths.insert(
                    root.clone(),
                    json!({"serverRelativeURL": format!("/openapi/v3/{root}?hash={hash}")}),
                );
            }
        }
        json!({ "paths": paths }).to_string().into_bytes()
    }

    /// The document of a group version (`api/v1`, `apis/apps/v1`); `None` when nothing is served there.
    pub fn v3(&self, root: &str) -> Option<Document> {
        let served: Vec<&Resource> = self.resources.iter().filter(|it| it.root() == root).collect();
        (!served.is_empty()).then(|| self.document(root, Flavor::V3, &served))
    }

    /// The one document of version 2.
    pub fn v2(&self) -> Document {
        let all: Vec<&Resource> = self.resources.iter().collect();
        self.document("", Flavor::V2, &all)
    }

    fn document(&self, root: &str, flavor: Flavor, resources: &[&Resource]) -> Document {
        let lock = || self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = lock().get(root) {
            return document.clone();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = write(&mut encoder, &self.version, flavor, resources);
        let gzip = written.and_then(|()| encoder.finish()).unwrap_or_default(); // a vector takes all that is written
        let document = Document { gzip: gzip.into(), etag: self.hash(root) };
        lock().insert(root.to_owned(), document.clone());
        document
    }

    /// What a document's content depends on, in one number: known without writing it.
    fn hash(&self, root: &str) -> String {
        let mut hash = Fnv::default();
        hash.add(self.version.as_bytes());
        hash.add(crate::table::text().as_bytes());
        hash.add(descriptions::packed());
        for resource in self.resources.iter().filter(|it| root.is_empty() || it.root() == root) {
            for part in
                [&resource.group, &resource.version, &resource.name, &resource.kind, &resource.kind_version]
            {
                hash.add(part.as_bytes());
            }
            resource.verbs.iter().for_each(|verb| hash.add(verb.as_bytes()));
        }
        format!("{:016X}", hash.0)
    }
}

/// FNV-1a over words of eight bytes: quick, and good enough to tell one build's document from another's.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word) ^ chunk.len() as u64).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn write(
    out: &mut impl Write,
    version: &str,
    flavor: Flavor,
    resources: &[&Resource],
) -> std::io::Result<()> {
    let descriptions = Descriptions::load();
    let mut definitions = Definitions::new(flavor, &descriptions);
    let info = json!({"title": "Kubernetes", "version": version});
    match flavor {
        Flavor::V2 => write!(out, r#"{{"swagger":"2.0","info":{info},"paths":{{"#)?,
        Flavor::V3 => write!(out, r#"{{"openapi":"3.0.0","info":{info},"paths":{{"#)?,
    }
    let mut paths: BTreeMap<String, Value> = BTreeMap::new();
    for resource in resources {
        operations::add(flavor, resource, &mut definitions, &mut paths);
    }
    members(out, paths)?;
    let head: &[u8] = match flavor {
        Flavor::V2 => br#"},"definitions":{"#,
        Flavor::V3 => br#"},"components":{"schemas":{"#,
    };
    out.write_all(head)?;
    definitions.write(out)?;
    let token = json!({"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization",
        "description": "Bearer Token authentication"}});
    match flavor {
        Flavor::V2 => {
            write!(out, r#"}},"securityDefinitions":{token},"security":[{{"BearerToken":[]}}]}}"#)
        }
        Flavor::V3 => write!(out, r#"}},"securitySchemes":{token}}}}}"#),
    }
}

/// Writes the members of an object, without its braces.
fn members(out: &mut impl Write, members: impl IntoIterator<Item = (String, Value)>) -> std::io::Result<()> {
    let mut first = true;
    for (name, value) in members {
        if !std::mem::take(&mut first) {
            out.write_all(b",")?;
        }
        write!(out, "{}:{value}", Value::String(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
