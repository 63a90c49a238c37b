//! Images for containers: names, policies, pulls, credentials, and the list that the Node shows.

mod accounts; // service accounts that plugins ask in the name of
mod docker; // what docker's configuration files and Secrets say
mod ensure; // policy: whether there is an image, must be one, may be used
mod keyring; // which credentials are for which image
mod name; // what a user may call an image
mod node_credentials; // the node's own: files and plugins
mod pace; // registryPullQPS
mod plugin; // exec credential providers
mod pull; // one pull: turns, credentials, the runtime's answer
mod records; // who pulled what with which credentials
mod verification; // whether a pod may use an image that is there

pub use accounts::{Account, AccountRef, Accounts, NoAccounts, OfApi};
pub use docker::of_secret;
pub use ensure::{ImageFailure, PullRequest, Puller, PullerDeps};
pub use keyring::{Credential, Keyring, SecretRef, Source};
pub use name::{normalize, repository};
pub use node_credentials::NodeCredentials;
pub use records::Records;
pub use verification::Verification;

/// Whether a failure with this reason is one of a pull: shown for a moment, then as `ImagePullBackOff`.
pub fn is_pull_failure(reason: &str) -> bool {
    matches!(reason, "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed")
}

/// Whether a plugin's `matchImages` has a pattern in this.
pub fn is_image_pattern(pattern: &str) -> bool {
    keyring::is_pattern(pattern)
}

#[cfg(test)]
mod tests;
