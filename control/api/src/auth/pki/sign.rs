//! Certificates for keys of others: subject, key and names go over byte for byte as they were asked for; time, use and
//! signature are ours.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{KeyPair, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::{FromDer, ParsedCriAttribute, X509Certificate, X509CertificationRequest};

use super::Pki;

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is no PKCS#10 request, or its own signature is not by its key.
    #[error("read the certificate request: {0}")]
    Request(String),
    /// A use that certificates do not have.
    #[error("{0:?} is no use of a certificate")]
    Usage(String),
    /// Its time lies outside of what the CA or a certificate can say.
    #[error("the certificate would not be valid for any time: {0}")]
    Time(String),
    /// The CA's key cannot sign.
    #[error("sign with the key of the certificate authority: {0}")]
    Key(String),
}

/// A certificate to be made of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The PKCS#10 request in PEM.
    pub request: &'a [u8],
    /// What it is for, in the words of a CertificateSigningRequest.
    pub usages: &'a [String],
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when; the CA's own end comes first.
    pub not_after: Timestamp,
}

impl Pki {
    /// Signs a request; gives the certificate in PEM. Whether it should be signed is for the caller to know.
    pub fn sign(&self, signing: Signing<'_>) -> Result<String, SignError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(signing.request).map_err(request)?;
        let (_, asked) = X509CertificationRequest::from_der(&block.contents).map_err(request)?;
        asked.verify_signature().map_err(request)?;
        let authority = self.ca_der().map_err(|err| SignError::Key(err.to_string()))?;
        let (_, authority) =
            X509Certificate::from_der(&authority).map_err(|err| SignError::Key(err.to_string()))?;
        let ends = signing.not_after.as_second().min(authority.validity().not_after.timestamp());
        if ends <= signing.not_before.as_second() {
            return Err(SignError::Time(format!("from {} to {ends}", signing.not_before.as_second())));
        }
        let key = self.issuer.key();
        let algorithm = algorithm(key)?;
        let info = &asked.certification_request_info;
        let to_be_signed = sequence(&[
            tlv(0xa0, &[&tlv(INTEGER, &[&[2]])]),
            tlv(INTEGER, &[&serial()?]),
            algorithm.clone(),
            authority.subject().as_raw().to_vec(),
            sequence(&[time(signing.not_before.as_second())?, time(ends)?]),
            info.subject.as_raw().to_vec(),
            info.subject_pki.raw.to_vec(),
            tlv(0xa3, &[&sequence(&extensions(&asked, &authority, signing.usages)?)]),
        ]);
        let signature = key.sign(&to_be_signed).map_err(|err| SignError::Key(err.to_string()))?;
        let whole = sequence(&[to_be_signed, algorithm, tlv(BIT_STRING, &[&[0], &signature])]);
        Ok(pem(&whole))
    }
}

fn request(err: impl std::fmt::Display) -> SignError {
    SignError::Request(err.to_string())
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// One element of DER.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|it| it.len()).sum();
    let mut out = vec![tag];
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().skip_while(|it| **it == 0).copied().collect::<Vec<u8>>();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend(significant);
        }
    }
    parts.iter().for_each(|it| out.extend_from_slice(it));
    out
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    tlv(SEQUENCE, &parts)
}

/// The AlgorithmIdentifier of what the key signs with.
fn algorithm(key: &KeyPair) -> Result<Vec<u8>, SignError> {
    let of = |oid: &[u8]| sequence(&[tlv(OID, &[oid])]);
    let used = key.algorithm();
    if used == &rcgen::PKCS_ECDSA_P256_SHA256 {
        Ok(of(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]))
    } else if used == &rcgen::PKCS_ECDSA_P384_SHA384 {
        Ok(of(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]))
    } else if used == &rcgen::PKCS_ED25519 {
        Ok(of(&[0x2b, 0x65, 0x70]))
    } else if used == &rcgen::PKCS_RSA_SHA256 {
        let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
        Ok(sequence(&[tlv(OID, &[&rsa]), tlv(0x05, &[])]))
    } else {
        Err(SignError::Key(
            "its algorithm is none of ECDSA P-256, P-384, Ed25519, RSA with SHA-256".to_owned(),
        ))
    }
}

/// A positive number of 16 bytes that nobody guesses.
fn serial() -> Result<[u8; 16], SignError> {
    let mut serial = [0; 16];
    let random = SystemRandom::new().fill(&mut serial);
    random.map_err(|_| SignError::Key("no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn time(seconds: i64) -> Result<Vec<u8>, SignError> {
    let at = Timestamp::from_second(seconds).map_err(|err| SignError::Time(err.to_string()))?;
    let at = at.to_zoned(TimeZone::UTC);
    // Until 2049 the years have two digits.
    Ok(if (1950..2050).contains(&at.year()) {
        tlv(0x17, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
    } else {
        tlv(0x18, &[at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
    })
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mark = if critical { tlv(0x01, &[&[0xff]]) } else { Vec::new() };
    sequence(&[tlv(OID, &[oid]), mark, tlv(OCTET_STRING, &[value])])
}

fn extensions(
    asked: &X509CertificationRequest<'_>,
    authority: &X509Certificate<'_>,
    usages: &[String],
) -> Result<Vec<Vec<u8>>, SignError> {
    let (mut bits, mut purposes) = (0u16, Vec::new());
    for usage in usages {
        match (key_usage(usage), purpose(usage)) {
            (Some(bit), _) => bits |= 0x8000 >> bit,
            (None, Some(oid)) => purposes.push(tlv(OID, &[oid])),
            (None, None) => return Err(SignError::Usage(usage.clone())),
        }
    }
    let mut all = Vec::new();
    if bits != 0 {
        let [high, low] = bits.to_be_bytes();
        let used = if low == 0 { vec![high] } else { vec![high, low] };
        let unused = u8::try_from(used.last().map_or(0, |it| it.trailing_zeros())).unwrap_or_default();
        all.push(extension(&[0x55, 0x1d, 0x0f], true, &tlv(BIT_STRING, &[&[unused], &used])));
    }
    if !purposes.is_empty() {
        all.push(extension(&[0x55, 0x1d, 0x25], false, &sequence(&purposes)));
    }
    // Never a CA.
    all.push(extension(&[0x55, 0x1d, 0x13], true, &sequence(&[])));
    let by = authority.extensions().iter().find_map(|it| match it.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    if let Some(id) = by {
        all.push(extension(&[0x55, 0x1d, 0x23], false, &sequence(&[tlv(0x80, &[id])])));
    }
    let info = &asked.certification_request_info;
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else { continue };
        for it in wanted.extensions.iter().filter(|it| it.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
            let nameless = info.subject.iter().next().is_none();
            all.push(extension(&[0x55, 0x1d, 0x11], nameless, it.value));
        }
    }
    Ok(all)
}

/// The bit of a key usage.
fn key_usage(usage: &str) -> Option<u8> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The object identifier of an extended key usage.
fn purpose(usage: &str) -> Option<&'static [u8]> {
    Some(match usage {
        "any" => &[0x55, 0x1d, 0x25, 0x00],
        "server auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3],
        "netscape sgc" => &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        _ => return None,
    })
}

/// Whether certificates have such a use.
pub fn is_usage(usage: &str) -> bool {
    key_usage(usage).is_some() || purpose(usage).is_some()
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
