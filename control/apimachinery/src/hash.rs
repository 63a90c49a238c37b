//! Hashes and random suffixes for generated names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// No vowels, and none of 0, 1, 3: no words arise by accident.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits.
#[must_use]
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// FNV-1a, 64 bits.
#[must_use]
pub fn fnv64a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Each byte of `text` as one letter of the name alphabet.
#[must_use]
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The label value that tells one pod template of an owner from another: the template's bytes, and the collision
/// counter if one was needed.
#[must_use]
pub fn pod_template_hash(template: &[u8], collision_count: Option<i32>) -> String {
    let mut bytes = template.to_vec();
    if let Some(count) = collision_count {
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    safe_encode(&fnv32a(&bytes).to_string())
}

/// `length` random letters of the name alphabet, for `generateName`.
#[must_use]
pub fn rand_suffix(length: usize) -> String {
    let mut out = String::with_capacity(length);
    while out.len() < length {
        // Each RandomState has keys of its own from the system's randomness.
        let mut bits = RandomState::new().build_hasher().finish();
        for _ in 0..12 {
            let letter = usize::try_from(bits % 27).unwrap_or(0);
            out.push(char::from(ALPHABET[letter]));
            bits /= 27;
            if out.len() == length {
                break;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"foobar"), 0xbf9c_f968);
        assert_eq!(fnv64a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn encodings_stay_in_the_alphabet() {
        let hash = pod_template_hash(b"{}", None);
        assert!(hash.bytes().all(|b| ALPHABET.contains(&b)));
        assert_ne!(hash, pod_template_hash(b"{}", Some(1)));
        assert_ne!(pod_template_hash(b"{}", Some(0)), pod_template_hash(b"{}", Some(1)));
    }

    #[test]
    fn suffixes_differ() {
        let all: std::collections::BTreeSet<_> = (0..1000).map(|_| rand_suffix(5)).collect();
        assert!(all.len() > 990, "{}", all.len());
        assert!(all.iter().all(|s| s.len() == 5 && s.bytes().all(|b| ALPHABET.contains(&b))));
        assert_eq!(rand_suffix(30).len(), 30);
    }
}
