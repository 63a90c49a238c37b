//! The further built-in kinds: scheduling, policy, networking, autoscaling, admission, resources.

mod admission; // webhooks and admission policies
mod cluster; // priority and runtime classes, flow control, dynamic resources
mod network; // ingresses, policies, addresses
mod scaling; // autoscalers and disruption budgets

pub use admission::{
    MUTATING_POLICY, MUTATING_WEBHOOKS, POLICY_BINDING, VALIDATING_POLICY, VALIDATING_WEBHOOKS,
};
pub use cluster::{
    API_SERVICE, FLOW_SCHEMA, PRIORITY_CLASS, PRIORITY_LEVEL, RESOURCE_CLAIM, RESOURCE_SLICE, RUNTIME_CLASS,
};
pub use network::{INGRESS, INGRESS_CLASS, IP_ADDRESS, NETWORK_POLICY, SERVICE_CIDR};
pub use scaling::{AUTOSCALER, AUTOSCALER_V1, DISRUPTION_BUDGET};
