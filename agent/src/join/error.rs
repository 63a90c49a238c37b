//! Why a machine cannot join, in words that say what to do about it.

use super::token::{CaHash, TokenError};

/// What stood in the way.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The address is none.
    #[error("--server {server}: {reason}")]
    Server {
        /// As it was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token or hash is none.
    #[error("--token: {0}")]
    Token(#[source] TokenError),
    /// The hash is none.
    #[error("--ca-hash: {0}")]
    CaHash(#[source] TokenError),
    /// Two hashes, or none.
    #[error("{0}")]
    Pin(&'static str),
    /// Nobody answers there.
    #[error(
        "cannot reach the server at {server}: {reason}; is it running, and does a firewall let this machine through?"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// The network's answer.
        reason: String,
    },
    /// Somebody answers, but not an API server that nodes can join.
    #[error("{server} does not answer as a cluster's API server: {reason}")]
    NotAServer {
        /// Where.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The CA is not the one that was pinned.
    #[error(
        "the CA of the cluster at {server} has the hash {found}, but the token is for {wanted}: it is another cluster, \
         or somebody stands between; a new token comes from `coracle token create` on the server"
    )]
    WrongCa {
        /// Where.
        server: String,
        /// What it shows.
        found: CaHash,
        /// What was pinned.
        wanted: CaHash,
    },
    /// The CA is the pinned one, but the server's own certificate is not by it.
    #[error("the certificate of {server} is not good for it: {reason}")]
    Certificate {
        /// Where.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two clocks are too far apart for certificates to count.
    #[error(
        "this machine's clock is {apart} {direction} the server's: certificates would not count; set the clock (NTP)"
    )]
    Clock {
        /// How far, for people.
        apart: String,
        /// `behind` or `ahead of`.
        direction: &'static str,
    },
    /// The server does not know the token.
    #[error(
        "the server does not accept the token {id}: it is wrong, has expired or was deleted; \
         `coracle token create` on the server makes a new one"
    )]
    Refused {
        /// The token's id.
        id: String,
    },
    /// The server knows the token, but it is not for nodes.
    #[error("the token {id} does not let nodes join: {reason}")]
    NotForNodes {
        /// The token's id.
        id: String,
        /// The server's words.
        reason: String,
    },
    /// A node of this name lives.
    #[error(
        "a node named {name} is in the cluster and Ready: give this one another name by --node-name, or remove the \
         other first (kubectl delete node {name})"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The data folder belongs to another cluster.
    #[error(
        "this machine has joined another cluster before (its CA has the hash {found}, the token is for {wanted}): \
         remove {folder} to leave that one"
    )]
    OtherCluster {
        /// The CA that is kept.
        found: CaHash,
        /// What was pinned.
        wanted: CaHash,
        /// What to remove.
        folder: std::path::PathBuf,
    },
    /// There is no certificate, and nothing to ask for one with.
    #[error("{0}: give --token, which `coracle token create` on the server makes")]
    TokenNeeded(&'static str),
    /// A file of the node.
    #[error("{action} {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
