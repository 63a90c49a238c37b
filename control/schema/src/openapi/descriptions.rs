//! What types and fields are for: texts that come from the client library at build time, packed until they are asked
//! for. Built without the feature `descriptions`, there are none.

use std::collections::HashMap;
#[cfg(feature = "descriptions")]
use std::io::Read as _;

/// A line per type (`name`, tab, text), then one per field (tab, name, tab, text); newlines in texts are `\u{1}`.
#[cfg(feature = "descriptions")]
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.gz"));
#[cfg(not(feature = "descriptions"))]
static PACKED: &[u8] = &[];

/// The packed texts.
pub(super) fn packed() -> &'static [u8] {
    PACKED
}

/// The texts, unpacked.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    text: String,
    /// By definition: where its lines begin and end.
    places: HashMap<String, (usize, usize)>,
}

impl Descriptions {
    pub(super) fn load() -> Self {
        let text = unpack();
        let mut places = HashMap::new();
        let (mut at, mut open) = (0, None);
        for line in text.split_inclusive('\n') {
            if !line.starts_with('\t') {
                if let Some((name, start)) = open.take() {
                    places.insert(name, (start, at));
                }
                let name = line.split('\t').next().unwrap_or_default();
                open = Some((name.trim_end().to_owned(), at));
            }
            at += line.len();
        }
        if let Some((name, start)) = open {
            places.insert(name, (start, at));
        }
        Self { text, places }
    }

    /// What a type is for.
    pub(super) fn of(&self, definition: &str) -> Option<String> {
        let line = self.lines(definition)?.lines().next()?;
        readable(line.split_once('\t')?.1)
    }

    /// What a field is for.
    pub(super) fn field(&self, definition: &str, field: &str) -> Option<String> {
        let mut lines = self.lines(definition)?.lines();
        lines.find_map(|line| readable(line.strip_prefix('\t')?.strip_prefix(field)?.strip_prefix('\t')?))
    }

    fn lines(&self, definition: &str) -> Option<&str> {
        let (start, end) = self.places.get(definition)?;
        self.text.get(*start..*end)
    }
}

fn readable(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.replace('\u{1}', "\n"))
}

#[cfg(feature = "descriptions")]
fn unpack() -> String {
    let mut text = String::new();
    // our own build packed them: they can be inflated
    _ = flate2::read::GzDecoder::new(PACKED).read_to_string(&mut text);
    text
}

#[cfg(not(feature = "descriptions"))]
fn unpack() -> String {
    String::new()
}
