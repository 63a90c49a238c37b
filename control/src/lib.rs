//! The cluster side in one value: store, API server, scheduler and controllers, started and stopped together.
//!
//! Start at [`ControlPlane::start`]. Its parts know each other only through clients of the API.

mod authority; // the CA, for the controllers that sign
mod config; // what it is told
mod error; // why it cannot run
mod identities; // who its parts are to the API server
mod plane; // the parts, put together

pub use config::{ControlConfig, ServingFiles};
pub use coracle_controllers::NodeMasks;
pub use error::ControlError;
pub use plane::{ControlPlane, ControlTasks};
