//! Who is calling, and what may they do.
//!
//! [`Authenticator`] turns a peer certificate or a bearer token into a [`UserInfo`]; [`Authorizer`] decides on
//! [`Attributes`]. Both read cluster objects only through [`AuthIndex`], which the watch cache feeds: no request waits
//! for the store here, so both are plain functions.

mod authenticator; // certificate, bearer token, anonymous
mod authorizer; // the chain: masters, node, RBAC
pub mod bootstrap; // default roles and bindings
pub mod bootstrap_token; // what a machine that is no node yet shows
pub mod index; // what authorization needs to know of the cluster
pub mod node; // what a node may do
pub mod pki; // CA, certificates, keys, kubeconfigs on disk
pub mod rbac; // rules, bindings, escalation
pub mod token; // service-account tokens: JWS, JWKS
mod user; // identities

pub use authenticator::{AnonymousPolicy, Authenticator, Unauthenticated};
pub use authorizer::{Attributes, Authorizer, Decision};
pub use index::AuthIndex;
pub use pki::{Pki, PkiOptions};
pub use token::{TokenAuthority, TokenSubject};
pub use user::UserInfo;
