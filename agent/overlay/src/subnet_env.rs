//! `subnet.env`: what the flannel plugin reads.

use coracle_cni::Cidr;
use coracle_cni::address::step;
use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

/// Writes the file at once, and only when it differs. Masquerade is ours: plugins shall not do it too.
pub fn write(file: &Path, networks: &[Cidr], own: &[Cidr], mtu: Option<u32>) -> io::Result<()> {
    let text = render(networks, own, mtu);
    if fs::read_to_string(file).is_ok_and(|now| now == text) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension("env.new");
    fs::write(&draft, text)?;
    fs::rename(&draft, file)
}

fn render(networks: &[Cidr], own: &[Cidr], mtu: Option<u32>) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key}={value}"); // writing to a String cannot fail
        }
    };
    for ipv4 in [true, false] {
        let (network, subnet) = if ipv4 {
            ("FLANNEL_NETWORK", "FLANNEL_SUBNET")
        } else {
            ("FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET")
        };
        let of_family =
            |all: &[Cidr]| all.iter().copied().filter(|it| it.is_ipv4() == ipv4).collect::<Vec<_>>();
        let all: Vec<String> = of_family(networks).iter().map(ToString::to_string).collect();
        line(network, all.join(","));
        // The address of the pods' gateway, with the network's length.
        let gateway =
            of_family(own).first().and_then(|it| Some((step(it.network().addr(), 1)?, it.prefix())));
        line(subnet, gateway.map(|(addr, prefix)| format!("{addr}/{prefix}")).unwrap_or_default());
    }
    line("FLANNEL_MTU", mtu.map(|it| it.to_string()).unwrap_or_default());
    line("FLANNEL_IPMASQ", "true".into());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_flannel_writes_it() {
        let cidrs = |all: &[&str]| all.iter().map(|it| it.parse().unwrap()).collect::<Vec<Cidr>>();
        let text = render(
            &cidrs(&["10.244.0.0/16", "fd00::/48"]),
            &cidrs(&["10.244.3.0/24", "fd00:0:0:3::/64"]),
            Some(1450),
        );
        assert_eq!(
            text,
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
             FLANNEL_IPV6_SUBNET=fd00:0:0:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flannel/subnet.env");
        write(&file, &[], &cidrs(&["10.244.3.0/24"]), None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "FLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPMASQ=true\n");
    }
}
