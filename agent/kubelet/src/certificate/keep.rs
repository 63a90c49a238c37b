//! Renewal: a certificate is asked for when there is none that suits, and again before it expires.

use std::time::Duration;

use coracle_client::{Backoff, report};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{CertificateError, CertificateStore, Pair, Wish, request, wish};
use crate::pod;

/// The machine's clock may be set: the certificate is looked at this often.
const LOOK: Duration = Duration::from_secs(3600);

/// A certificate to keep.
pub struct Keeping {
    /// Asks; its own credentials may be the ones that are renewed.
    pub client: kube::Client,
    /// Where it lies.
    pub store: CertificateStore,
    /// What it is for.
    pub wish: Wish,
}

/// Keeps a certificate until `token` is cancelled; `renewed` is called after each new one.
pub async fn keep<F>(keeping: Keeping, renewed: impl Fn(Pair) -> F, token: CancellationToken)
where
    F: Future<Output = ()>,
{
    let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));
    loop {
        let now = Timestamp::now();
        let wait = match current(&keeping) {
            Some(pair) if pair.renew_at() > now => pod::since(pair.renew_at(), now).min(LOOK),
            _ => match token.run_until_cancelled(renew(&keeping)).await {
                None => return,
                Some(Ok(pair)) => {
                    backoff.reset();
                    let signer = keeping.wish.signer;
                    tracing::info!(signer, expires = %pair.not_after, "the node's certificate was renewed");
                    renewed(pair).await;
                    continue;
                }
                Some(Err(err)) => {
                    let signer = keeping.wish.signer;
                    tracing::warn!(signer, error = %report(&err), "the node's certificate was not renewed");
                    backoff.next_jittered()
                }
            },
        };
        // Only waits.
        if token.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

fn current(keeping: &Keeping) -> Option<Pair> {
    match keeping.store.current() {
        Ok(pair) => pair.filter(|it| it.suits(&keeping.wish)),
        Err(err) => {
            tracing::warn!(error = %report(&err), "a stored certificate is of no use");
            None
        }
    }
}

async fn renew(keeping: &Keeping) -> Result<Pair, CertificateError> {
    let key = wish::new_key()?;
    let chain = request::ask(&keeping.client, &keeping.wish, &key, None).await?;
    let (store, key, now) = (keeping.store.clone(), key.serialize_pem(), Timestamp::now());
    let kept = tokio::task::spawn_blocking(move || store.put(&chain, &key, now)).await;
    let pair = kept.map_err(|err| wish::malformed("new certificate", &err))??;
    if pair.renew_at() <= now || !pair.suits(&keeping.wish) {
        return Err(wish::malformed(
            "new certificate",
            &"it is not what was asked for, or has expired already",
        ));
    }
    Ok(pair)
}
