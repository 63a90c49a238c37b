//! Bootstrap tokens: signatures by which their holders know the cluster, and their end.

mod clean; // tokens whose time is over
mod sign; // cluster-info, signed with every token
mod views; // the fields of tokens

pub(crate) use clean::start as start_cleaner;
pub(crate) use sign::start as start_signer;

use crate::shared::Context;
use coracle_client::{Endpoint, Informer, Params, Resource};
use views::Token;

const SECRETS: Resource = Resource::core("secrets");
const NAMESPACE: &str = "kube-system";

/// All bootstrap tokens: one copy in memory for both controllers.
pub(crate) async fn tokens(context: &Context) -> Informer<Token> {
    let params = Params::<Token>::all().fields(format!("type={}", views::SECRET_TYPE));
    let endpoint = Endpoint::new(context.reader.clone(), &SECRETS, NAMESPACE);
    let tokens = Informer::start(endpoint, params, &context.tracker, context.token.clone());
    tokens.synced().await;
    tokens
}
