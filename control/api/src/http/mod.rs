//! Requests and answers as HTTP sees them.

pub mod body; // response bodies
pub mod info; // what a request asks for
pub mod negotiate; // which form an answer takes
