//! Containers' addresses as sources of a zone of firewalld, through its own client.

use crate::process;
use crate::spec::{CniError, Code, Explain, IpConfig};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn add(zone: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    ips.iter().try_for_each(|ip| change(zone, "--add-source", ip, "ALREADY_ENABLED"))
}

pub(super) fn del(zone: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    let failures = ips.iter().filter_map(|ip| change(zone, "--remove-source", ip, "NOT_ENABLED").err());
    CniError::all(failures.collect())
}

pub(super) fn check(zone: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    for ip in ips {
        let (ok, _) = run(&[format!("--zone={zone}"), format!("--query-source={}", ip.address.addr())])?;
        if !ok {
            let msg = format!("{} is not a source of zone {zone} any more", ip.address.addr());
            return Err(CniError::new(Code::CheckFailed, msg));
        }
    }
    Ok(())
}

pub(super) fn ready(zone: &str) -> Result<(), CniError> {
    match run(&[format!("--info-zone={zone}")])? {
        (true, _) => Ok(()),
        (false, text) => {
            Err(CniError::new(Code::Network, format!("firewalld has no zone {zone}")).details(text))
        }
    }
}

/// `fine` is what the client says when nothing is to be done.
fn change(zone: &str, option: &str, ip: &IpConfig, fine: &str) -> Result<(), CniError> {
    let addr = ip.address.addr();
    match run(&[format!("--zone={zone}"), format!("{option}={addr}")])? {
        (true, _) => Ok(()),
        (false, text) if text.contains(fine) => Ok(()),
        (false, text) => {
            Err(CniError::new(Code::Network, format!("firewalld: {option} {addr} in zone {zone}"))
                .details(text))
        }
    }
}

fn run(arguments: &[String]) -> Result<(bool, String), CniError> {
    let mut command = Command::new("firewall-cmd");
    command.args(arguments);
    let output =
        process::run(command, b"", DEADLINE).explain(Code::Network, || "talk to firewalld".into())?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_owned()))
}
