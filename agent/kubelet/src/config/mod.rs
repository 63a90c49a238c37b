//! Configuration: raw (`KubeletConfiguration` file, drop-ins, flags) → resolved and checked once → small structs.
//!
//! Nothing else in the kubelet reads files of configuration, flags or the environment.

mod paths; // where things lie on disk
mod settings; // the resolved structs

pub use paths::Paths;
pub use settings::{
    ApiSettings, CgroupDriver, CgroupSettings, DnsSettings, EvictionThreshold, ImageSettings, KubeletConfig,
    LogSettings, NodeSettings, PodSettings, Reserved, ResourceSettings, RuntimeSettings, ServerSettings,
    SourceSettings, Threshold,
};
