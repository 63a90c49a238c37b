//! The API server: HTTPS front, authentication, authorization, admission, registry, watch cache.
//!
//! Start at [`ApiServer`]. A request goes through [`http::handler`] (who, what, may they) to a verb in [`registry`],
//! which passes [`admission`] on writes and reads from [`cache`].

pub mod admission; // rules that may change or refuse a write
mod api; // what all requests share
pub mod auth; // who calls, and what they may do
mod bootstrap; // what is there from the first start
pub mod cache; // every resource's objects as encoded bytes, and who watches
mod call; // one request on its way
mod codec; // an object's forms
mod config; // what the server is told at start
pub mod connect; // bytes to and from kubelets, pods and services
mod error; // how requests fail
pub mod http; // requests and answers as HTTP sees them
pub mod kinds; // what is particular to one kind
mod metrics; // what is counted
pub mod registry; // every verb, written once
pub mod resources; // which resources there are
mod server; // started, called, served, stopped
mod services; // addresses and node ports of Services
mod value; // small words for JSON trees

pub use api::Api;
pub use call::Call;
pub use config::{ApiConfig, Settings};
pub use error::{ApiError, Outcome};
pub use server::{ApiServer, InProcess};
pub use services::{Cidr, CidrError};
