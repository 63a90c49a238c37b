//! The CA, for the controllers that sign: they know the shape of an order, not the key.

use std::sync::Arc;

use coracle_api::auth::Pki;
use coracle_api::auth::pki::Signing;
use coracle_controllers::{CertificateAuthority, Order};

/// Signs with the cluster's CA.
pub struct Authority(pub Arc<Pki>);

impl std::fmt::Debug for Authority {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl CertificateAuthority for Authority {
    fn sign(&self, order: &Order) -> Result<String, String> {
        let signing = Signing {
            request: &order.request,
            usages: &order.usages,
            not_before: order.not_before,
            not_after: order.not_after,
        };
        self.0.sign(signing).map_err(|err| err.to_string())
    }
}
