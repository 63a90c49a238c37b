//! Images for containers: names, policies, pulls, and the list that the Node shows.

mod credentials; // imagePullSecrets
mod name; // what a user may call an image
mod puller; // policy, limits, the runtime's answer

pub use credentials::{Credential, credentials, of_secret};
pub use name::normalize;
pub use puller::{ImageFailure, PullRequest, Puller, PullerDeps};
