//! Names in the kubepods tree, in both drivers' spelling.

use crate::config::CgroupDriver;
use crate::resources::QosClass;

/// A place in the tree: its components below the machine's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupName(Vec<String>);

impl CgroupName {
    /// `<root>/kubepods`; `root` is the configured `cgroupRoot`.
    pub fn kubepods(root: &str) -> Self {
        let mut parts: Vec<String> = root.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        parts.push("kubepods".to_owned());
        Self(parts)
    }

    /// The parent of pods of a class: guaranteed pods lie in `kubepods` itself.
    #[must_use]
    pub fn of_class(&self, class: QosClass) -> Self {
        match class {
            QosClass::Guaranteed => self.clone(),
            QosClass::Burstable => self.child("burstable"),
            QosClass::BestEffort => self.child("besteffort"),
        }
    }

    /// A pod below this class's cgroup.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Self {
        self.child(&format!("pod{uid}"))
    }

    fn child(&self, name: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.to_owned());
        Self(parts)
    }

    /// As the runtime wants it in `cgroup_parent`: a path, or a slice's name.
    pub fn parent_for(&self, driver: CgroupDriver) -> String {
        match driver {
            CgroupDriver::Cgroupfs => format!("/{}", self.0.join("/")),
            CgroupDriver::Systemd => slice(&self.0),
        }
    }

    /// The folder below a hierarchy's mount point, without a leading slash.
    pub fn folder(&self, driver: CgroupDriver) -> String {
        match driver {
            CgroupDriver::Cgroupfs => self.0.join("/"),
            CgroupDriver::Systemd => {
                (1..=self.0.len()).map(|end| slice(&self.0[..end])).collect::<Vec<_>>().join("/")
            }
        }
    }
}

/// The uid in the name of a pod's folder, in either driver's spelling.
pub(super) fn uid_of_folder(name: &str, driver: CgroupDriver) -> Option<String> {
    match driver {
        CgroupDriver::Cgroupfs => name.strip_prefix("pod").map(str::to_owned),
        CgroupDriver::Systemd => {
            let stem = name.strip_suffix(".slice")?;
            stem.rsplit('-').next()?.strip_prefix("pod").map(|uid| uid.replace('_', "-"))
        }
    }
    .filter(|uid| !uid.is_empty())
}

/// A slice says its whole ancestry by dashes, so a dash inside a component becomes an underscore.
fn slice(parts: &[String]) -> String {
    let escaped: Vec<String> =
        parts.iter().map(|it| it.trim_end_matches(".slice").replace('-', "_")).collect();
    format!("{}.slice", escaped.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(root: &str, class: QosClass, driver: CgroupDriver, parent: &str, folder: &str) {
        let name = CgroupName::kubepods(root).of_class(class).pod("0a-1b");
        assert_eq!((name.parent_for(driver).as_str(), name.folder(driver).as_str()), (parent, folder));
        let last = folder.rsplit('/').next().unwrap();
        assert_eq!(uid_of_folder(last, driver).as_deref(), Some("0a-1b"));
    }

    #[test]
    fn both_drivers_spell_the_same_tree() {
        use CgroupDriver::{Cgroupfs, Systemd};
        check("/", QosClass::Guaranteed, Cgroupfs, "/kubepods/pod0a-1b", "kubepods/pod0a-1b");
        check(
            "/x",
            QosClass::Burstable,
            Cgroupfs,
            "/x/kubepods/burstable/pod0a-1b",
            "x/kubepods/burstable/pod0a-1b",
        );
        check(
            "",
            QosClass::BestEffort,
            Systemd,
            "kubepods-besteffort-pod0a_1b.slice",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a_1b.slice",
        );
        assert_eq!(uid_of_folder("kubepods-burstable.slice", Systemd), None);
        assert_eq!(uid_of_folder("burstable", Cgroupfs), None);
    }
}
