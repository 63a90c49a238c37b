//! Slices of the systemd driver: systemd owns the tree, so it is asked to make and to stop them. Blocking.
//!
//! The limits go to systemd as properties, for it writes them again whenever it reloads; the tree writes the same into
//! the files, with the hierarchies that systemd leaves alone.

use std::path::PathBuf;

use super::{CgroupError, Limits};
use crate::dbus::{Bus, DbusError, Value};
use crate::resources::weight;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The way to systemd. A connection lives as long as one call: pods come and go seldom.
pub(super) struct Slices {
    /// The system's bus.
    pub socket: PathBuf,
    /// Whether controllers are in v1 hierarchies: properties have other names there.
    pub v1: bool,
}

impl Slices {
    /// Makes a slice, or gives the one that is there these limits.
    pub fn ensure(&self, unit: &str, limits: &Limits) -> Result<(), CgroupError> {
        let mut bus = self.connect(unit)?;
        let mut properties = vec![
            Value::property("Description", format!("pods' cgroup {unit}").as_str().into()),
            Value::property("DefaultDependencies", Value::Bool(false)),
        ];
        let io = if self.v1 { "BlockIOAccounting" } else { "IOAccounting" };
        let counted = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io];
        properties.extend(counted.map(|it| Value::property(it, Value::Bool(true))));
        properties.extend(self.limits(limits));
        let list = |properties| Value::Array("(sv)".into(), properties);
        let none = Value::Array("(sa(sv))".into(), Vec::new());
        let asked = vec![unit.into(), "replace".into(), list(properties), none];
        match bus.call(SYSTEMD, PATH, MANAGER, "StartTransientUnit", asked) {
            Ok(_) => Ok(()),
            Err(err) if err.is("org.freedesktop.systemd1.UnitExists") => {
                let limits = self.limits(limits);
                if limits.is_empty() {
                    return Ok(());
                }
                let asked = vec![unit.into(), Value::Bool(true), list(limits)];
                let set = bus.call(SYSTEMD, PATH, MANAGER, "SetUnitProperties", asked);
                set.map(|_| ()).map_err(failed("limit", unit))
            }
            Err(err) => Err(failed("start", unit)(err)),
        }
    }

    /// Stops a slice with all that is in it. One that is not there is no error.
    pub fn stop(&self, unit: &str) -> Result<(), CgroupError> {
        let mut bus = self.connect(unit)?;
        match bus.call(SYSTEMD, PATH, MANAGER, "StopUnit", vec![unit.into(), "replace".into()]) {
            Ok(_) => Ok(()),
            Err(err) if err.is("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(err) => Err(failed("stop", unit)(err)),
        }
    }

    fn connect(&self, unit: &str) -> Result<Bus, CgroupError> {
        Bus::connect(&self.socket).map_err(failed("reach systemd for", unit))
    }

    fn limits(&self, limits: &Limits) -> Vec<Value> {
        // systemd writes "no limit" as the greatest number.
        let or_none = |it: i64| Value::U64(u64::try_from(it).unwrap_or(u64::MAX));
        let mut list = Vec::new();
        if let Some(shares) = limits.shares {
            let (name, value) = if self.v1 {
                ("CPUShares", shares)
            } else {
                ("CPUWeight", i64::try_from(weight(shares)).unwrap_or(100))
            };
            list.push(Value::property(name, or_none(value)));
        }
        if let Some(quota) = limits.quota {
            let period = limits.period.unwrap_or(100_000).max(1);
            list.push(Value::property("CPUQuotaPerSecUSec", or_none(per_second(quota, period))));
            list.push(Value::property("CPUQuotaPeriodUSec", or_none(period)));
        }
        if let Some(memory) = limits.memory {
            list.push(Value::property(if self.v1 { "MemoryLimit" } else { "MemoryMax" }, or_none(memory)));
        }
        if let Some(pids) = limits.pids {
            list.push(Value::property("TasksMax", or_none(pids)));
        }
        list
    }
}

/// A quota per second; systemd rounds down to hundredths of a second, which would take from the pod.
fn per_second(quota: i64, period: i64) -> i64 {
    if quota <= 0 {
        return -1;
    }
    const STEP: i64 = 10_000;
    let exact = quota.saturating_mul(1_000_000) / period;
    exact.saturating_add(STEP - 1) / STEP * STEP
}

fn failed(action: &'static str, unit: &str) -> impl FnOnce(DbusError) -> CgroupError {
    let unit = unit.to_owned();
    move |source| CgroupError::Systemd { action, unit, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_the_names_of_both_versions() {
        let limits = Limits {
            shares: Some(512),
            quota: Some(12_345),
            period: Some(100_000),
            memory: Some(1 << 20),
            pids: Some(-1),
        };
        let names = |v1| {
            let slices = Slices { socket: PathBuf::new(), v1 };
            slices.limits(&limits).iter().map(|it| format!("{it:?}")).collect::<Vec<_>>().join("\n")
        };
        for name in ["CPUWeight", "MemoryMax", "TasksMax"] {
            assert!(names(false).contains(name), "{name}");
        }
        for name in ["CPUShares", "MemoryLimit"] {
            assert!(names(true).contains(name), "{name}");
        }
        assert_eq!(per_second(12_345, 100_000), 130_000);
        assert_eq!(per_second(-1, 100_000), -1);
        assert!(Slices { socket: PathBuf::new(), v1: false }.limits(&Limits::default()).is_empty());
    }
}
