//! Types of the CNI specification: versions 0.1.0 to 1.1.0, requests, results, errors.
mod conf; // what every plugin's configuration has in common
mod error; // failures with the specification's codes
mod legacy; // results as older versions write them
mod request; // command and environment of one call
mod result; // what ADD returns
mod version; // which versions there are

pub(crate) use conf::parse_ip;
pub use conf::{AttachmentId, Common, IpamType, PortMapping, Protocol, RuntimeConfig};
pub use error::{CniError, Code, Explain};
pub use request::{Command, Request};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use version::{SUPPORTED, Version};
