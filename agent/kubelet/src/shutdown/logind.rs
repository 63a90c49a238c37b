//! logind's lock and its announcements.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::dbus::{Bus, DbusError, Hangup, Value};

const LOGIND: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const RULE: &str = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown',path='/org/freedesktop/login1'";

/// A connection to logind.
pub(super) struct Logind {
    bus: Bus,
}

/// While it is held, a shutdown waits; for as long as logind allows.
pub(super) struct Lock {
    _fd: OwnedFd,
}

impl Logind {
    pub fn connect(socket: &Path) -> Result<Self, DbusError> {
        let mut bus = Bus::connect(socket)?;
        bus.subscribe(RULE)?;
        Ok(Self { bus })
    }

    pub fn hangup(&self) -> Result<Hangup, DbusError> {
        self.bus.hangup()
    }

    /// How long logind lets a lock delay a shutdown.
    pub fn longest_delay(&mut self) -> Result<Duration, DbusError> {
        let asked = vec![MANAGER.into(), "InhibitDelayMaxUSec".into()];
        let (said, _) = self.bus.call(LOGIND, PATH, "org.freedesktop.DBus.Properties", "Get", asked)?;
        let micros = said.first().and_then(Value::number);
        micros.map(Duration::from_micros).ok_or(DbusError::Malformed("InhibitDelayMaxUSec is no number"))
    }

    /// Takes the lock.
    pub fn lock(&mut self) -> Result<Lock, DbusError> {
        let why = "Kubelet needs time to handle node shutdown";
        let asked = vec!["shutdown".into(), "kubelet".into(), why.into(), "delay".into()];
        let (_, fds) = self.bus.call(LOGIND, PATH, MANAGER, "Inhibit", asked)?;
        let fd = fds.into_iter().next().ok_or(DbusError::Malformed("Inhibit gave no descriptor"))?;
        Ok(Lock { _fd: fd })
    }

    /// Tells logind to read its configuration again.
    pub fn reload(&mut self) -> Result<(), DbusError> {
        const SIGHUP: i32 = 1;
        let asked = vec!["systemd-logind.service".into(), "all".into(), Value::I32(SIGHUP)];
        let manager = "org.freedesktop.systemd1.Manager";
        let (of, path) = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1");
        self.bus.call(of, path, manager, "KillUnit", asked).map(|_| ())
    }

    /// Waits for the next announcement: true, the machine is going down; false, it is not any more.
    pub fn announcement(&mut self) -> Result<bool, DbusError> {
        loop {
            if let Some(signal) = self.bus.signal(None)?
                && signal.member == "PrepareForShutdown"
                && let Some(Value::Bool(down)) = signal.body.first()
            {
                return Ok(*down);
            }
        }
    }
}
