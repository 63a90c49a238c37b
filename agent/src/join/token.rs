//! What a person carries from the server to a machine that is to join: a bootstrap token, and the hash by which the
//! cluster's CA is known.

use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Marks a token that carries the CA's hash.
const MARK: &str = "K1";
/// Between hash and token.
const JOINT: &str = "::";
const ID: usize = 6;
const SECRET: usize = 16;

/// SHA-256 of a CA's public key (its SubjectPublicKeyInfo): the same that kubeadm pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaHash([u8; 32]);

/// Id and secret of a bootstrap token. Not printable by accident: it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Its name: no secret.
    pub id: String,
    /// What only its holder knows.
    pub secret: String,
}

/// What `--token` takes: with the CA's hash, or without.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// By which the cluster's CA is known.
    pub ca: Option<CaHash>,
    /// With which the certificate is asked for.
    pub token: BootstrapToken,
}

/// Why a text is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The part before `::`.
    #[error("the part before \"::\" is not K1 and the 64 hexadecimal digits of the CA's hash")]
    Mark,
    /// The token itself.
    #[error("a token is 6 characters, a dot and 16 characters, all of a-z and 0-9: abcdef.0123456789abcdef")]
    Token,
    /// A hash.
    #[error("a CA's hash is sha256: and 64 hexadecimal digits")]
    Hash,
    /// A CA.
    #[error("the CA's certificate does not parse: {0}")]
    Certificate(String),
}

impl CaHash {
    /// Of a certificate in PEM.
    pub fn of_pem(pem: &[u8]) -> Result<Self, TokenError> {
        let der =
            CertificateDer::from_pem_slice(pem).map_err(|err| TokenError::Certificate(err.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|err| TokenError::Certificate(err.to_string()))?;
        let hash = digest(&SHA256, parsed.public_key().raw);
        <[u8; 32]>::try_from(hash.as_ref()).map(Self).map_err(|_| TokenError::Hash)
    }

    fn of_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn hex(self) -> String {
        self.0.iter().map(|it| format!("{it:02x}")).collect()
    }
}

impl std::fmt::Display for CaHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for CaHash {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        text.strip_prefix("sha256:").and_then(Self::of_hex).ok_or(TokenError::Hash)
    }
}

impl BootstrapToken {
    /// A new one that nobody guesses.
    pub fn generate() -> Result<Self, ring::error::Unspecified> {
        use ring::rand::{SecureRandom, SystemRandom};
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let random = SystemRandom::new();
        let mut text = String::new();
        while text.len() < ID + SECRET {
            let mut byte = [0];
            random.fill(&mut byte)?;
            // Bytes beyond the last whole round would favour the first letters.
            if byte[0] < 252 {
                text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        let secret = text.split_off(ID);
        Ok(Self { id: text, secret })
    }

    /// As it is shown to the API server.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl FromStr for BootstrapToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let plain = |it: &str| it.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        match text.split_once('.') {
            Some((id, secret)) if id.len() == ID && secret.len() == SECRET && plain(id) && plain(secret) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(TokenError::Token),
        }
    }
}

impl JoinToken {
    /// As a person carries it; a secret.
    pub fn text(&self) -> String {
        match self.ca {
            Some(ca) => format!("{MARK}{}{JOINT}{}", ca.hex(), self.token.bearer()),
            None => self.token.bearer(),
        }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some((mark, token)) = text.split_once(JOINT) else {
            return Ok(Self { ca: None, token: text.parse()? });
        };
        let ca = mark.strip_prefix(MARK).and_then(CaHash::of_hex).ok_or(TokenError::Mark)?;
        Ok(Self { ca: Some(ca), token: token.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn tokens_are_carried_with_and_without_the_hash() {
        let with: JoinToken = format!("K1{HEX}::abcdef.0123456789abcdef\n").parse().unwrap();
        assert_eq!(with.ca.unwrap().to_string(), format!("sha256:{HEX}"));
        assert_eq!(with.ca, Some(format!("sha256:{HEX}").parse().unwrap()));
        assert_eq!(with.text(), format!("K1{HEX}::abcdef.0123456789abcdef"));
        let plain: JoinToken = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!((plain.ca, plain.token.id.as_str()), (None, "abcdef"));
        for (text, expected) in [
            ("K1::abcdef.0123456789abcdef".to_owned(), TokenError::Mark),
            (format!("K2{HEX}::abcdef.0123456789abcdef"), TokenError::Mark),
            (format!("K1{HEX}::abcdef"), TokenError::Token),
            ("ABCDEF.0123456789abcdef".to_owned(), TokenError::Token),
            (String::new(), TokenError::Token),
        ] {
            assert_eq!(text.parse::<JoinToken>().err(), Some(expected), "{text}");
        }
        assert_eq!(HEX.parse::<CaHash>(), Err(TokenError::Hash));
    }

    #[test]
    fn new_tokens_are_tokens_and_differ() {
        let (a, b) = (BootstrapToken::generate().unwrap(), BootstrapToken::generate().unwrap());
        assert!(a.bearer().parse::<BootstrapToken>().is_ok_and(|it| it == a));
        assert!(a != b);
    }
}
