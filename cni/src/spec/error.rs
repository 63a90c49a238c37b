//! Failures as a plugin prints them: a code of the specification, a sentence, the cause.

use super::version::Version;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The specification's error codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// 1: the version of the configuration is not one of ours.
    IncompatibleVersion,
    /// 2: a field asks for something that is not supported.
    UnsupportedField,
    /// 3: the container is unknown or gone.
    UnknownContainer,
    /// 4: an environment variable is missing or wrong.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: the input is not what it should be.
    Decode,
    /// 7: the configuration contradicts itself.
    InvalidConfig,
    /// 11: a passing condition; the same call may succeed later.
    TryAgainLater,
    /// 50: no ADD can be served now.
    NotAvailable,
    /// 51: no ADD can be served, and existing containers may be cut off.
    LimitedConnectivity,
    /// 100: the kernel or its tools refused a change to the network.
    Network,
    /// 101: what CHECK looked for is not as it was set up.
    CheckFailed,
    /// 102: an address is taken, or none is left.
    Address,
    /// Any other code, from somebody else's plugin.
    Other(u32),
}

impl Code {
    /// The number that goes over the wire.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Network => 100,
            Code::CheckFailed => 101,
            Code::Address => 102,
            Code::Other(number) => number,
        }
    }
}

/// A failed call of a plugin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// What was tried, on what.
    pub msg: String,
    /// Why it failed; may be empty.
    pub details: String,
}

impl CniError {
    /// A failure without further details.
    pub fn new(code: Code, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// Adds the cause.
    #[must_use]
    pub fn details(self, details: impl Into<String>) -> CniError {
        CniError { details: details.into(), ..self }
    }

    /// Adds what failed while cleaning up after this.
    #[must_use]
    pub fn and(mut self, cleanup: Result<(), CniError>) -> CniError {
        if let Err(other) = cleanup {
            self.details = format!("{}; then, cleaning up: {other}", self.details);
        }
        self
    }

    /// One error out of the failures of a tear-down that tried everything; nothing when there was none.
    pub fn all(mut failures: Vec<CniError>) -> Result<(), CniError> {
        let rest = failures.split_off(failures.len().min(1));
        let Some(mut first) = failures.pop() else { return Ok(()) };
        for other in rest {
            first.details = format!("{}; also: {other}", first.details);
        }
        Err(first)
    }

    /// The object that a plugin prints.
    pub fn to_json(&self, version: Version) -> serde_json::Value {
        let mut object =
            serde_json::json!({"cniVersion": version, "code": self.code.number(), "msg": self.msg});
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }

    /// Reads what somebody's plugin printed when it failed.
    pub fn from_json(text: &[u8]) -> Option<CniError> {
        #[derive(Serialize, Deserialize)]
        struct Wire {
            code: u32,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let wire: Wire = serde_json::from_slice(text).ok()?;
        Some(CniError { code: Code::Other(wire.code).known(), msg: wire.msg, details: wire.details })
    }
}

impl Code {
    fn known(self) -> Code {
        let all = [
            Code::IncompatibleVersion,
            Code::UnsupportedField,
            Code::UnknownContainer,
            Code::InvalidEnvironment,
            Code::Io,
            Code::Decode,
            Code::InvalidConfig,
            Code::TryAgainLater,
            Code::NotAvailable,
            Code::LimitedConnectivity,
        ];
        all.into_iter().find(|code| code.number() == self.number()).unwrap_or(self)
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl std::error::Error for CniError {}

/// Turns any error into a [`CniError`] that says what was tried.
pub trait Explain<T> {
    /// Adds the code and the sentence; the error with its causes becomes the details.
    fn explain(self, code: Code, msg: impl FnOnce() -> String) -> Result<T, CniError>;
}

impl<T, E: std::error::Error> Explain<T> for Result<T, E> {
    fn explain(self, code: Code, msg: impl FnOnce() -> String) -> Result<T, CniError> {
        self.map_err(|err| {
            let mut details = err.to_string();
            let mut cause = err.source();
            while let Some(next) = cause {
                details = format!("{details}: {next}");
                cause = next.source();
            }
            CniError { code, msg: msg(), details }
        })
    }
}
