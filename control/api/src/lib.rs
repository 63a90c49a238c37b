//! The API server: HTTPS front, authentication, authorization, admission, registry, watch cache.

pub mod auth; // who calls, and what they may do
pub mod cache; // every resource's objects as encoded bytes, and who watches
pub mod http; // requests and answers as HTTP sees them
pub mod kinds; // what is particular to one kind
pub mod resources; // which resources there are
