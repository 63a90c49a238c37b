//! Why a pod fits nowhere, in upstream's sentence.

use crate::framework::Rejection;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What kept a pod from every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    nodes: usize,
    /// Why no node was even looked at.
    before: Option<String>,
    reasons: BTreeMap<String, usize>,
    plugins: BTreeSet<&'static str>,
    preemption: Option<Preemption>,
}

/// What making room would have brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Preemption {
    /// The pod must not push others out.
    Forbidden,
    /// On so many nodes there is nobody less important; on so many it would not help anyway.
    Futile { no_victims: usize, no_help: usize },
}

impl Diagnosis {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    pub(crate) fn reject_all(mut self, plugin: &'static str, rejection: &Rejection) -> Self {
        self.before = Some(rejection.reasons.join(", "));
        self.plugins.insert(plugin);
        self
    }

    pub(crate) fn reject(&mut self, plugin: &'static str, rejection: Rejection) {
        self.plugins.insert(plugin);
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    pub(crate) fn set_preemption(&mut self, preemption: Preemption) {
        self.preemption = Some(preemption);
    }

    /// The plugins that rejected it somewhere.
    pub(crate) const fn plugins(&self) -> &BTreeSet<&'static str> {
        &self.plugins
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let all = self.nodes;
        write!(f, "0/{all} nodes are available:")?;
        if let Some(before) = &self.before {
            write!(f, " {before}.")?;
        }
        if !self.reasons.is_empty() {
            // Sorted as text, numbers included, as clients know it.
            let mut reasons: Vec<_> =
                self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            reasons.sort();
            write!(f, " {}.", reasons.join(", "))?;
        }
        match self.preemption {
            None => Ok(()),
            Some(Preemption::Forbidden) => {
                f.write_str(" preemption: not eligible due to preemptionPolicy=Never.")
            }
            Some(Preemption::Futile { no_victims, no_help }) => {
                let sentences = [
                    (no_victims, "No preemption victims found for incoming pod"),
                    (no_help, "Preemption is not helpful for scheduling"),
                ];
                let mut reasons: Vec<_> = sentences
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, text)| format!("{count} {text}"))
                    .collect();
                reasons.sort();
                write!(f, " preemption: 0/{all} nodes are available: {}.", reasons.join(", "))
            }
        }
    }
}
