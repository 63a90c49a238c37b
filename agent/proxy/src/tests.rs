//! The proxy as a whole: text compared, text loaded by nft, packets through the rules.
mod host; // a host with pods and a client outside, in namespaces
mod packets; // packets through the rules
mod text; // services as text
