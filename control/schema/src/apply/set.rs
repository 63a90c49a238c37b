//! Sets of paths, as tries.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::path::Step;

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Set {
    /// Paths that end here.
    members: BTreeSet<Step>,
    /// Paths that go on. None of them is empty.
    children: BTreeMap<Step, Set>,
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Adds the path of one step.
    pub(super) fn insert(&mut self, step: Step) {
        self.members.insert(step);
    }

    /// Adds the paths of `below`, behind `step`.
    pub(super) fn insert_below(&mut self, step: Step, below: Set) {
        if !below.is_empty() {
            self.children.insert(step, below);
        }
    }

    pub(super) fn has(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    pub(super) fn below(&self, step: &Step) -> Option<&Set> {
        self.children.get(step)
    }

    /// Takes one path away, but not those that it begins.
    pub(super) fn remove_member(&mut self, names: &[&str]) {
        self.remove_at(names, false);
    }

    /// Takes one path away, and those that it begins.
    pub(super) fn remove(&mut self, names: &[&str]) {
        self.remove_at(names, true);
    }

    fn remove_at(&mut self, names: &[&str], below: bool) {
        let Some((first, rest)) = names.split_first() else { return };
        let step = Step::Field((*first).to_owned());
        if rest.is_empty() {
            self.members.remove(&step);
            if below {
                self.children.remove(&step);
            }
        } else if let Some(child) = self.children.get_mut(&step) {
            child.remove_at(rest, below);
            if child.is_empty() {
                self.children.remove(&step);
            }
        }
    }

    pub(super) fn union(&self, other: &Set) -> Set {
        let mut all = self.clone();
        all.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            let joined = all.children.get(step).map_or_else(|| child.clone(), |mine| mine.union(child));
            all.children.insert(step.clone(), joined);
        }
        all
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        let mut both =
            Set { members: self.members.intersection(&other.members).cloned().collect(), ..Set::default() };
        for (step, child) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                both.insert_below(step.clone(), child.intersection(theirs));
            }
        }
        both
    }

    pub(super) fn difference(&self, other: &Set) -> Set {
        let mut rest =
            Set { members: self.members.difference(&other.members).cloned().collect(), ..Set::default() };
        for (step, child) in &self.children {
            let left =
                other.children.get(step).map_or_else(|| child.clone(), |theirs| child.difference(theirs));
            rest.insert_below(step.clone(), left);
        }
        rest
    }

    /// Every path, written out: `.spec.replicas`.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        self.collect("", &mut texts);
        texts
    }

    fn collect(&self, prefix: &str, texts: &mut Vec<String>) {
        texts.extend(self.members.iter().map(|step| format!("{prefix}{step}")));
        for (step, child) in &self.children {
            child.collect(&format!("{prefix}{step}"), texts);
        }
    }

    /// As FieldsV1.
    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        for step in &self.members {
            map.insert(step.encoded(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            let mut below = child.write();
            if self.members.contains(step)
                && let Value::Object(below) = &mut below
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(step.encoded(), below);
        }
        Value::Object(map)
    }

    /// Reads FieldsV1.
    pub(super) fn read(fields: &Value) -> Option<Set> {
        let mut set = Set::default();
        for (text, below) in fields.as_object()? {
            if text == "." {
                continue;
            }
            let step = Step::parse(text)?;
            let below_map = below.as_object()?;
            if below_map.is_empty() || below_map.contains_key(".") {
                set.members.insert(step.clone());
            }
            set.insert_below(step, Set::read(below)?);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = Set> {
        let step = prop_oneof![
            "[a-c]".prop_map(Step::Field),
            (0u64..2).prop_map(Step::Index),
            "[a-b]".prop_map(|name| Step::Value(format!("{name:?}"))),
        ];
        proptest::collection::vec(proptest::collection::vec(step, 1..4), 0..8).prop_map(|paths| {
            let mut set = Set::default();
            for path in paths {
                let mut one = Set::default();
                let mut steps = path.into_iter().rev();
                one.insert(steps.next().unwrap());
                for step in steps {
                    one = Set { children: [(step, one)].into(), ..Set::default() };
                }
                set = set.union(&one);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_follow_their_laws(a in sets(), b in sets()) {
            prop_assert_eq!(Set::read(&a.write()).unwrap(), a.clone());
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.texts().len() + b.texts().len(), a.union(&b).texts().len() + a.intersection(&b).texts().len());
        }
    }
}
