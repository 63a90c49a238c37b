//! Requests and answers as HTTP sees them.

pub mod body; // response bodies
pub mod connect; // the door to kubelets, pods and services
mod discovery; // which groups, versions and resources there are
pub mod handler; // who, what, may they, then the verb
mod health; // healthz, livez, readyz
pub mod info; // what a request asks for
pub mod negotiate; // which form an answer takes
pub(crate) mod paths; // what is not a resource
mod resources; // from a request for a resource to its verb
pub(crate) mod websocket; // watches and logs for browsers
