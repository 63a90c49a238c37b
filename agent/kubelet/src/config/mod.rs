//! Configuration: raw (`KubeletConfiguration` file, drop-ins, flags) → resolved and checked once → small structs.
//!
//! Nothing else in the kubelet reads files of configuration, flags or the environment. Start at [`load`].

mod document; // files read strictly, merged, checked, completed
mod error; // why a configuration is refused
mod fields; // the table of every field
mod flags; // the command line
mod load; // the whole way
mod paths; // where things lie on disk
mod providers; // programs that are asked for registry credentials
mod resolve; // from the document to the structs
mod settings; // the resolved structs
mod shutdown; // graceful shutdown's three fields into one table
#[cfg(test)]
pub(crate) mod testing; // a configuration for tests
mod tls; // versions, cipher suites and curves by their names

pub use error::ConfigurationError;
pub use flags::Flags;
pub use load::{Loaded, load};
pub use paths::Paths;
pub use providers::{CredentialProvider, TokenAttributes};
pub use settings::{
    ApiSettings, CgroupDriver, CgroupSettings, CredentialPolicy, DnsSettings, EvictionThreshold,
    ImageSettings, KubeletConfig, LogSettings, NodeSettings, PodSettings, ProcessSettings, Reserved,
    ResourceSettings, RuntimeSettings, ServerSettings, ShutdownSettings, SourceSettings, Threshold,
    TlsSettings,
};
