//! The messages and services of CRI v1, generated from `proto/cri.proto`.
#![allow(missing_docs, reason = "generated from the protocol, whose names are the documentation")]
#![allow(
    clippy::all,
    clippy::too_many_lines,
    clippy::unwrap_used,
    unused_qualifications,
    reason = "generated"
)]

tonic::include_proto!("runtime.v1");
