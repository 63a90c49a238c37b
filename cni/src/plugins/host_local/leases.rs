//! One file per address, in a folder per network: the reference plugin's layout, so that either finds the other's.
//!
//! A lease appears complete or not at all: it is written under another name and linked. The folder's lock
//! is the kernel's, and ends with the process that holds it.

use crate::spec::{AttachmentId, CniError, Code, Explain};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const LAST: &str = "last_reserved_ip.";
const DRAFT: &str = ".draft";

/// An address and who has it.
#[derive(Debug)]
pub(super) struct Lease {
    /// The address.
    pub(super) addr: IpAddr,
    content: String,
}

impl Lease {
    /// True when the attachment holds this lease.
    pub(super) fn is_of(&self, owner: &AttachmentId) -> bool {
        let content = self.content.trim();
        // Before interfaces were written, the container stood alone.
        content == format!("{}\r\n{}", owner.container_id, owner.ifname) || content == owner.container_id
    }
}

/// The leases of one network, locked.
pub(super) struct Leases {
    dir: PathBuf,
    _lock: File,
}

impl Leases {
    /// Locks the folder, which is made where it is missing.
    pub(super) fn lock(dir: &Path) -> Result<Leases, CniError> {
        fs::create_dir_all(dir).explain(Code::Io, || format!("create folder {}", dir.display()))?;
        let lock = || {
            let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
            file.lock()?;
            Ok::<File, io::Error>(file)
        };
        let lock = lock().explain(Code::Io, || format!("lock folder {}", dir.display()))?;
        Ok(Leases { dir: dir.to_owned(), _lock: lock })
    }

    /// As [`Leases::lock`], or nothing where no lease can be.
    pub(super) fn lock_if_present(dir: &Path) -> Result<Option<Leases>, CniError> {
        if dir.is_dir() { Leases::lock(dir).map(Some) } else { Ok(None) }
    }

    /// The addresses that are leased.
    pub(super) fn taken(&self) -> Result<HashSet<IpAddr>, CniError> {
        Ok(self.files()?.into_iter().map(|(addr, _)| addr).collect())
    }

    /// All leases with their holders.
    pub(super) fn all(&self) -> Result<Vec<Lease>, CniError> {
        let read = |(addr, path): (IpAddr, PathBuf)| {
            let content =
                fs::read_to_string(&path).explain(Code::Io, || format!("read lease {}", path.display()))?;
            Ok(Lease { addr, content })
        };
        self.files()?.into_iter().map(read).collect()
    }

    /// Writes a lease; the address must be free.
    pub(super) fn lease(&self, addr: IpAddr, owner: &AttachmentId) -> Result<(), CniError> {
        let (draft, path) = (self.dir.join(DRAFT), self.dir.join(addr.to_string()));
        let write = || {
            fs::write(&draft, format!("{}\r\n{}", owner.container_id, owner.ifname))?;
            fs::hard_link(&draft, &path)?;
            fs::remove_file(&draft)
        };
        write().explain(Code::Io, || format!("write lease {}", path.display()))
    }

    /// Removes the leases that are picked; tries all before it reports a failure.
    pub(super) fn release(&self, picked: impl Fn(&Lease) -> bool) -> Result<Vec<IpAddr>, CniError> {
        let (mut gone, mut failures) = (Vec::new(), Vec::new());
        for lease in self.all()?.into_iter().filter(picked) {
            let path = self.dir.join(lease.addr.to_string());
            match fs::remove_file(&path).explain(Code::Io, || format!("remove lease {}", path.display())) {
                Ok(()) => gone.push(lease.addr),
                Err(err) => failures.push(err),
            }
        }
        CniError::all(failures).map(|()| gone)
    }

    /// The address of a set that was given last.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.dir.join(format!("{LAST}{set}"))).ok()?.trim().parse().ok()
    }

    /// Remembers the address that was given last.
    pub(super) fn set_last(&self, set: usize, addr: IpAddr) -> Result<(), CniError> {
        let (draft, path) = (self.dir.join(DRAFT), self.dir.join(format!("{LAST}{set}")));
        let write = || {
            fs::write(&draft, addr.to_string())?;
            fs::rename(&draft, &path)
        };
        write().explain(Code::Io, || format!("write {}", path.display()))
    }

    fn files(&self) -> Result<Vec<(IpAddr, PathBuf)>, CniError> {
        let say = || format!("read folder {}", self.dir.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).explain(Code::Io, say)? {
            let entry = entry.explain(Code::Io, say)?;
            if let Some(addr) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((addr, entry.path()));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str) -> AttachmentId {
        AttachmentId { container_id: id.into(), ifname: "eth0".into() }
    }

    #[test]
    fn the_layout_is_the_reference_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::lock(dir.path()).unwrap();
        let addr: IpAddr = "10.1.0.2".parse().unwrap();
        leases.lease(addr, &owner("c1")).unwrap();
        leases.set_last(0, addr).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("10.1.0.2")).unwrap(), "c1\r\neth0");
        assert_eq!(fs::read_to_string(dir.path().join("last_reserved_ip.0")).unwrap(), "10.1.0.2");
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["10.1.0.2", "last_reserved_ip.0", "lock"]);
    }

    #[test]
    fn a_draft_of_a_crashed_process_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::lock(dir.path()).unwrap();
        fs::write(dir.path().join(DRAFT), "half").unwrap();
        assert!(leases.all().unwrap().is_empty());
        leases.lease("10.1.0.2".parse().unwrap(), &owner("c1")).unwrap();
        assert!(leases.lease("10.1.0.2".parse().unwrap(), &owner("c2")).is_err());
        assert!(leases.all().unwrap()[0].is_of(&owner("c1")));
        let gone = leases.release(|lease| lease.is_of(&owner("c1"))).unwrap();
        assert_eq!(gone, ["10.1.0.2".parse::<IpAddr>().unwrap()]);
    }
}
