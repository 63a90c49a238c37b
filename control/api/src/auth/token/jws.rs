//! Compact JWS with ES256 and RS256, over ring.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair,
    UnparsedPublicKey,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The PEM text holds no usable key.
    #[error("read signing key: {0}")]
    Read(String),
    /// Signing failed.
    #[error("sign token: {0}")]
    Sign(String),
}

/// A public key that verifies tokens.
#[derive(Debug, Clone)]
pub struct VerifyKey {
    kid: String,
    public: Public,
}

#[derive(Debug, Clone)]
enum Public {
    /// The uncompressed point.
    P256(Vec<u8>),
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8>, pkcs1: Vec<u8> },
}

/// A private key that signs tokens.
#[derive(Debug)]
pub struct SigningKey {
    pair: Pair,
    public: VerifyKey,
}

#[derive(Debug)]
enum Pair {
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Reads a PKCS#8 P-256 or RSA key, or a PKCS#1 RSA key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|err| KeyError::Read(err.to_string()))?;
        let read = |err: ring::error::KeyRejected| KeyError::Read(err.to_string());
        match &der {
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(Self::rsa).map_err(read)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rng = SystemRandom::new();
                match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &rng) {
                    Ok(pair) => Ok(Self::p256(pair)),
                    Err(_other_kind) => RsaKeyPair::from_pkcs8(der).map(Self::rsa).map_err(read),
                }
            }
            _ => Err(KeyError::Read("the key must be PKCS#8, or PKCS#1 for RSA".to_owned())),
        }
    }

    fn p256(pair: EcdsaKeyPair) -> Self {
        let public = VerifyKey::of(Public::P256(pair.public_key().as_ref().to_vec()));
        Self { pair: Pair::P256(Box::new(pair)), public }
    }

    fn rsa(pair: RsaKeyPair) -> Self {
        let key = pair.public_key();
        let components: signature::RsaPublicKeyComponents<Vec<u8>> = key.into();
        let public = Public::Rsa { n: components.n, e: components.e, pkcs1: key.as_ref().to_vec() };
        Self { pair: Pair::Rsa(Box::new(pair)), public: VerifyKey::of(public) }
    }

    /// The public half.
    pub fn verify_key(&self) -> &VerifyKey {
        &self.public
    }

    /// A compact JWS of `claims`.
    pub fn sign(&self, claims: &[u8]) -> Result<String, KeyError> {
        let header = json!({"alg": self.public.algorithm(), "kid": self.public.kid});
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let rng = SystemRandom::new();
        let failed = |_: ring::error::Unspecified| KeyError::Sign("no randomness, or key unfit".to_owned());
        let signature = match &self.pair {
            Pair::P256(pair) => pair.sign(&rng, token.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &rng, token.as_bytes(), &mut signature)
                    .map_err(failed)?;
                signature
            }
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl VerifyKey {
    fn of(public: Public) -> Self {
        let info = public.subject_public_key_info();
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &info));
        Self { kid, public }
    }

    /// `ES256` or `RS256`.
    pub fn algorithm(&self) -> &'static str {
        match self.public {
            Public::P256(_) => "ES256",
            Public::Rsa { .. } => "RS256",
        }
    }

    /// Whether this key made the signature.
    pub(super) fn verifies(&self, parts: &Parts<'_>) -> bool {
        if parts.algorithm() != Some(self.algorithm()) {
            return false;
        }
        match &self.public {
            Public::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(parts.signed, &parts.signature)
                .is_ok(),
            Public::Rsa { pkcs1, .. } => {
                UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, pkcs1)
                    .verify(parts.signed, &parts.signature)
                    .is_ok()
            }
        }
    }

    /// The key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.public {
            Public::P256(point) => json!({
                "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256",
                "x": text(point.get(1..33).unwrap_or_default()), "y": text(point.get(33..65).unwrap_or_default()),
            }),
            Public::Rsa { n, e, .. } => json!({
                "use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": text(n), "e": text(e),
            }),
        }
    }
}

/// DER of the algorithm identifiers for P-256 and RSA keys.
const P256_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl Public {
    fn subject_public_key_info(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::P256(point) => (P256_ALGORITHM, point),
            Self::Rsa { pkcs1, .. } => (RSA_ALGORITHM, pkcs1),
        };
        let bits: Vec<u8> = std::iter::once(0).chain(key.iter().copied()).collect();
        let body = [algorithm, &der(0x03, &bits)].concat();
        der(0x30, &body)
    }
}

/// One DER value.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).unwrap_or_default()),
        _ => {
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A token taken apart, nothing verified.
pub(super) struct Parts<'a> {
    signed: &'a [u8],
    header: Value,
    /// The claims as JSON.
    pub claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// `None` when the text is no compact JWS.
    pub fn split(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            signed: signed.as_bytes(),
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }

    /// The issuer it claims to be of.
    pub fn issuer(&self) -> Option<String> {
        let claims: Value = serde_json::from_slice(&self.claims).ok()?;
        claims.get("iss")?.as_str().map(str::to_owned)
    }

    fn algorithm(&self) -> Option<&str> {
        self.header.get("alg")?.as_str()
    }
}

/// A version 4 UUID.
pub(super) fn random_uuid() -> Result<String, KeyError> {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_unspecified| KeyError::Sign("no randomness".to_owned()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    let hex = format!("{number:032x}");
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
