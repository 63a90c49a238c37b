//! Who else manages a field, in the words clients know.

use std::fmt;

use super::managed::Entry;
use super::set::Set;

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others manage fields that would change.
    #[error("{}", Message(.0))]
    Conflicts(Vec<Conflict>),
    /// What was applied makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// A field that somebody else manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who: `"kubectl" using apps/v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub field: String,
}

impl Conflict {
    /// The text of the status cause of reason `FieldManagerConflict` for this field.
    pub fn cause(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

pub(super) fn list(found: Vec<(Entry, Set)>) -> Vec<Conflict> {
    let mut conflicts: Vec<Conflict> = found
        .into_iter()
        .flat_map(|(entry, set)| {
            let manager = describe(&entry);
            set.texts().into_iter().map(move |field| Conflict { manager: manager.clone(), field })
        })
        .collect();
    conflicts.sort_by(|left, right| (&left.manager, &left.field).cmp(&(&right.manager, &right.field)));
    conflicts
}

fn describe(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text = format!("{text} with subresource {:?}", entry.subresource);
    }
    if entry.operation == "Update" {
        text = format!("{text} using {}", entry.api_version);
    }
    text
}

struct Message<'c>(&'c [Conflict]);

impl fmt::Display for Message<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0 {
            return write!(
                out,
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.manager, only.field
            );
        }
        write!(out, "Apply failed with {} conflicts: ", self.0.len())?;
        for (at, group) in self.0.chunk_by(|left, right| left.manager == right.manager).enumerate() {
            let newline = if at > 0 { "\n" } else { "" };
            write!(out, "{newline}conflicts with {}:", group.first().map_or("", |it| it.manager.as_str()))?;
            for conflict in group {
                write!(out, "\n- {}", conflict.field)?;
            }
        }
        Ok(())
    }
}
