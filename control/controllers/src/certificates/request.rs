//! What a request asks for, and what each signer signs.

use super::views::Csr;
use std::net::IpAddr;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(super) const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// Subject and names of a PKCS#10 request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Mail addresses, URIs and other names that no node has.
    pub(super) others: usize,
}

impl Asked {
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|err| err.to_string())?;
        let (_, parsed) =
            X509CertificationRequest::from_der(&block.contents).map_err(|err| err.to_string())?;
        let subject = &parsed.certification_request_info.subject;
        let mut asked = Self {
            common_name: subject
                .iter_common_name()
                .next()
                .and_then(|it| it.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            organizations: subject
                .iter_organization()
                .map(|it| it.as_str().unwrap_or_default().to_owned())
                .collect(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            names.general_names.iter().for_each(|name| asked.add(name));
        }
        Ok(asked)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                match v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)) {
                    Ok(address) => self.addresses.push(address),
                    Err(_) => self.others += 1,
                }
            }
            _ => self.others += 1,
        }
    }

    /// The node whose certificate it is to be.
    pub(super) fn node(&self) -> Option<&str> {
        self.common_name.strip_prefix(NODE).filter(|it| !it.is_empty())
    }
}

/// Whether the usages are these, with or without those in brackets.
fn uses(usages: &[String], needed: &[&str], optional: &[&str]) -> bool {
    needed.iter().all(|it| usages.iter().any(|usage| usage == it))
        && usages.iter().all(|it| needed.contains(&it.as_str()) || optional.contains(&it.as_str()))
}

/// Why a signer would not sign it; the words are upstream's.
pub(super) fn check(csr: &Csr, asked: &Asked) -> Result<(), String> {
    let usages = &csr.spec.usages;
    match csr.spec.signer_name.as_str() {
        CLIENT => {
            if !uses(usages, &["client auth"], &["digital signature", "key encipherment"]) {
                return Err(format!("usages did not match, got {usages:?}"));
            }
        }
        KUBELET_CLIENT => {
            node_subject(asked)?;
            if !asked.names.is_empty() || !asked.addresses.is_empty() || asked.others > 0 {
                return Err("subjectAltNames are not allowed".to_owned());
            }
            if !uses(usages, &["digital signature", "client auth"], &["key encipherment"]) {
                return Err(
                    "usages must be client auth, digital signature, with or without key encipherment"
                        .to_owned(),
                );
            }
        }
        KUBELET_SERVING => {
            node_subject(asked)?;
            if asked.names.is_empty() && asked.addresses.is_empty() {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            if asked.others > 0 {
                return Err("email and URI subjectAltNames are not allowed".to_owned());
            }
            if !uses(usages, &["digital signature", "server auth"], &["key encipherment"]) {
                return Err(
                    "usages must be server auth, digital signature, with or without key encipherment"
                        .to_owned(),
                );
            }
        }
        LEGACY => {}
        other => return Err(format!("{other} is not signed here")),
    }
    Ok(())
}

fn node_subject(asked: &Asked) -> Result<(), String> {
    if asked.organizations != [NODES] {
        return Err(format!("organization needs to be {NODES}"));
    }
    if asked.node().is_none() {
        return Err(format!("common name must have the prefix {NODE}"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    /// A request in base64.
    pub(crate) fn request(organization: &str, name: &str, names: &[&str]) -> String {
        let (mail, plain): (Vec<&str>, Vec<&str>) = names.iter().partition(|it| it.contains('@'));
        let plain: Vec<String> = plain.into_iter().map(str::to_owned).collect();
        let mut params = rcgen::CertificateParams::new(plain).unwrap();
        for it in mail {
            params.subject_alt_names.push(rcgen::SanType::Rfc822Name(it.try_into().unwrap()));
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
    }

    /// A request object: what is asked for, and by whom.
    pub(crate) fn csr(signer: &str, usages: &[&str], request: &str, user: &str) -> Csr {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"request": request,
            "signerName": signer, "usages": usages, "username": user, "groups": ["system:nodes"]}}))
        .unwrap()
    }

    #[test]
    fn what_each_signer_signs() {
        let client = ["digital signature", "client auth"];
        let server = ["digital signature", "server auth", "key encipherment"];
        let mail = "joe@example.com";
        type Subject<'a> = (&'a str, &'a str, &'a [&'a str]);
        let all: [(&str, &[&str], Subject<'_>, &str); 13] = [
            (KUBELET_CLIENT, &client, (NODES, "system:node:n1", &[]), ""),
            (KUBELET_CLIENT, &client, ("masters", "system:node:n1", &[]), "organization"),
            (KUBELET_CLIENT, &client, (NODES, "bob", &[]), "common name"),
            (KUBELET_CLIENT, &client, (NODES, "system:node:", &[]), "common name"),
            (KUBELET_CLIENT, &client, (NODES, "system:node:n1", &["n1"]), "subjectAltNames"),
            (KUBELET_CLIENT, &server, (NODES, "system:node:n1", &[]), "usages"),
            (KUBELET_SERVING, &server, (NODES, "system:node:n1", &["n1", "10.0.0.1"]), ""),
            (KUBELET_SERVING, &server, (NODES, "system:node:n1", &[]), "is required"),
            (KUBELET_SERVING, &server, (NODES, "system:node:n1", &["n1", mail]), "email"),
            (KUBELET_SERVING, &client, (NODES, "system:node:n1", &["n1"]), "usages"),
            (CLIENT, &client, ("devs", "bob", &[]), ""),
            (CLIENT, &server, ("devs", "bob", &[]), "usages"),
            ("example.com/x", &client, ("devs", "bob", &[]), "not signed here"),
        ];
        for (signer, usages, (organization, name, names), expected) in all {
            let csr = csr(signer, usages, &request(organization, name, names), "u");
            let asked = Asked::parse(&csr.request()).unwrap();
            let got = check(&csr, &asked).err().unwrap_or_default();
            assert!(
                got.contains(expected) && got.is_empty() == expected.is_empty(),
                "{signer} {name}: {got}"
            );
        }
        assert!(Asked::parse(b"nonsense").is_err());
    }
}
