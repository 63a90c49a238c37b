//! What decides: one file per plugin, in upstream's order.

mod balanced_allocation; // no resource much fuller than another
mod image_locality; // where the images are already
mod node_affinity; // wishes about node labels
mod node_name; // a pod that names its node
mod node_ports; // ports of the node
mod node_resources_fit; // enough left
mod node_unschedulable; // cordoned nodes
mod taint_toleration; // taints

use crate::framework::Plugin;

/// The default profile.
pub(crate) fn all() -> &'static [&'static dyn Plugin] {
    &[
        &node_unschedulable::NodeUnschedulable,
        &node_name::NodeName,
        &taint_toleration::TaintToleration,
        &node_affinity::NodeAffinity,
        &node_ports::NodePorts,
        &node_resources_fit::NodeResourcesFit,
        &balanced_allocation::NodeResourcesBalancedAllocation,
        &image_locality::ImageLocality,
    ]
}
