//! Amounts of resources: what pods request and nodes have.

use coracle_apimachinery::Quantity;
use std::collections::BTreeMap;

/// Amounts by kind; extended resources and huge pages by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral_storage: i64,
    pub(crate) pods: i64,
    pub(crate) others: BTreeMap<String, i64>,
}

/// What a container that requests nothing counts as when nodes are compared.
pub(crate) const DEFAULT_MILLI_CPU: i64 = 100;
/// The same for memory: 200 MiB.
pub(crate) const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// A list of resources as it stands in the API.
pub(crate) type Listed = BTreeMap<String, String>;

impl Resources {
    /// Reads a list; what does not parse (the API refuses it) counts as nothing.
    pub(crate) fn of(listed: &Listed) -> Self {
        let mut resources = Self::default();
        for (name, text) in listed {
            let Ok(quantity) = Quantity::parse(text) else { continue };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => resources.pods = quantity.value(),
                _ => {
                    resources.others.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.combine(more, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, less: &Self) {
        self.combine(less, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
    }

    /// The larger of both, kind by kind.
    pub(crate) fn at_least(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// Whether nothing at all is asked for.
    pub(crate) fn is_nothing(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.others.values().all(|amount| *amount == 0)
    }

    fn combine(&mut self, other: &Self, how: fn(i64, i64) -> i64) {
        self.milli_cpu = how(self.milli_cpu, other.milli_cpu);
        self.memory = how(self.memory, other.memory);
        self.ephemeral_storage = how(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = how(self.pods, other.pods);
        for (name, amount) in &other.others {
            let sum = self.others.entry(name.clone()).or_default();
            *sum = how(*sum, *amount);
        }
    }
}
