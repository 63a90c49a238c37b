//! Versions of the specification.

use super::error::{CniError, Code};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A version of the specification that we speak.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// 0.1.0: one address per family.
    V0_1_0,
    /// 0.2.0: the same form.
    V0_2_0,
    /// 0.3.0: interfaces and lists of addresses; chains.
    V0_3_0,
    /// 0.3.1: the same form.
    V0_3_1,
    /// 0.4.0: CHECK, and DEL with the previous result.
    V0_4_0,
    /// 1.0.0: addresses without their family.
    V1_0_0,
    /// 1.1.0: GC, STATUS, more fields in routes and interfaces.
    V1_1_0,
}

/// Every version we speak, oldest first.
pub const SUPPORTED: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

impl Version {
    /// Reads a version; a configuration without one is 0.1.0.
    pub fn parse(text: &str) -> Result<Version, CniError> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        SUPPORTED.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            CniError::new(Code::IncompatibleVersion, format!("cniVersion {text:?} is not supported"))
                .details(format!("supported versions: {}", SUPPORTED.map(Version::as_str).join(", ")))
        })
    }

    /// The version as configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        Version::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
