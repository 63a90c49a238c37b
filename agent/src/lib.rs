//! The node agent's programs: `coracle`, everything in one process, and `kubelet`, the node agent alone.
//!
//! The rooms have crates of their own (see ARCHITECTURE.md); here is what only the programs need.

pub mod agent; // a node of a cluster elsewhere
pub mod api_client; // the kubelet's way to the API server
pub mod down; // end the pods, take back what is in the kernel
pub mod images; // image archives, imported at start
pub mod join; // a machine becomes a node
pub mod layout; // which folder holds what
pub mod lock; // one process per data folder
pub mod logging; // where log lines go
pub mod memory; // the allocator, threads
pub mod node; // what runs on every node
pub mod node_agent; // one kubelet with its server
pub mod node_network; // CNI plugins and their configuration
pub mod preflight; // what must be so before a start
pub mod server; // the control plane, and a node, in one process
pub mod settings; // the command line, resolved
pub mod started; // beginning and end of every role
pub mod status; // is it Ready
pub mod supervise; // systemd and signals
pub mod tokens; // what lets machines join
pub mod why; // what happened to a pod
