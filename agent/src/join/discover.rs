//! What a machine finds out before it joins: that the cluster is the pinned one, and that it may come in.

use jiff::Timestamp;
use kube::config::Kubeconfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::error::JoinError;
use super::probe::{Probe, compare_clocks};
use super::token::{BootstrapToken, CaHash};

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Reads the cluster's CA from a server that nobody vouches for, and lets it count only if its hash is the pinned
/// one. Gives its PEM.
pub(super) async fn ca(server: &str, pinned: CaHash, now: Timestamp) -> Result<String, JoinError> {
    let probe = Probe::untrusting(server)?;
    let answer = probe.get(CLUSTER_INFO).await?;
    if answer.code != 200 {
        let said = answer.body["message"].as_str().unwrap_or("no reason given").to_owned();
        return Err(probe.no_server(format!(
            "it does not tell about its cluster (configmap kube-public/cluster-info: {}, {said})",
            answer.code
        )));
    }
    let pem = ca_of(&answer.body).map_err(|reason| probe.no_server(reason))?;
    let found = CaHash::of_pem(pem.as_bytes()).map_err(|err| probe.no_server(err.to_string()))?;
    if found != pinned {
        return Err(JoinError::WrongCa { server: server.to_owned(), found, wanted: pinned });
    }
    if let Some(theirs) = answer.date {
        compare_clocks(now, theirs)?;
    }
    Ok(pem)
}

/// The CA in the kubeconfig that cluster-info carries.
fn ca_of(info: &Value) -> Result<String, String> {
    use base64::Engine;
    let text = info["data"]["kubeconfig"].as_str().ok_or("its cluster-info has no kubeconfig")?;
    let parsed = Kubeconfig::from_yaml(text).map_err(|err| format!("its cluster-info: {err}"))?;
    let data = parsed
        .clusters
        .first()
        .and_then(|it| it.cluster.as_ref()?.certificate_authority_data.clone())
        .ok_or("its cluster-info names no CA")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|err| format!("its cluster-info: {err}"))?;
    String::from_utf8(bytes).map_err(|err| format!("its cluster-info: {err}"))
}

/// Asks the server, which must now show a certificate of the CA, whether the token counts and the name is free.
pub(super) async fn admission(
    server: &str,
    ca_pem: &str,
    token: &BootstrapToken,
    name: &str,
) -> Result<(), JoinError> {
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|err| JoinError::Certificate { server: server.to_owned(), reason: err.to_string() })?;
    let probe = Probe::trusting(server, &ca, token)?;
    let answer = probe.get(&format!("/api/v1/nodes/{name}")).await?;
    let id = token.id.clone();
    match answer.code.as_u16() {
        404 => Ok(()),
        200 if is_ready(&answer.body) => Err(JoinError::NameTaken { name: name.to_owned() }),
        200 => Ok(()),
        401 => Err(JoinError::Refused { id }),
        403 => {
            let reason = answer.body["message"].as_str().unwrap_or_default().to_owned();
            Err(JoinError::NotForNodes { id, reason })
        }
        code => Err(probe.no_server(format!("it answers {code} when asked for a node"))),
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_ca_in_cluster_info() {
        let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster: \
                    {server: 'https://a:1', certificate-authority-data: UEVN}\n";
        assert_eq!(ca_of(&json!({"data": {"kubeconfig": text}})).unwrap(), "PEM");
        for (info, expected) in [
            (json!({}), "no kubeconfig"),
            (json!({"data": {"kubeconfig": "clusters: []"}}), "names no CA"),
            (json!({"data": {"kubeconfig": "{"}}), "cluster-info:"),
        ] {
            let text = ca_of(&info).unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_node_lives_while_it_is_ready() {
        let node = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&node("True")) && !is_ready(&node("Unknown")) && !is_ready(&json!({})));
    }
}
