//! A configuration for tests of this crate.

use std::path::Path;

use super::{Flags, KubeletConfig, load};

/// Defaults, with every folder below `root`, for a node called `node-1`.
pub(crate) fn config(root: &Path) -> KubeletConfig {
    let logs = format!("{}/logs", root.display());
    let mut flags = Flags::parse(&["--hostname-override=node-1", "--fail-cgroupv1=false"]).unwrap();
    flags.root_dir = Some(root.join("kubelet"));
    flags.overrides["podLogsDir"] = logs.into();
    flags.overrides["clusterDomain"] = "cluster.local".into();
    flags.overrides["clusterDNS"] = serde_json::json!(["10.96.0.10"]);
    load(&flags).unwrap().config
}
