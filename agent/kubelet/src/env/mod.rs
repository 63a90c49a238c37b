//! A container's environment: every source, `$(VAR)` expansion, service variables.

mod build; // the environment of one container
mod expand; // references
mod fields; // the downward API, for variables and files
mod file; // variables from files of volumes
mod services; // variables about Services

pub use build::{EnvInputs, Environment, environment};
pub use expand::expand;
pub use fields::{PodFacts, field_value, resource_value};
