//! The node's resolv.conf.

use std::net::{IpAddr, SocketAddr};

/// As many as the C library reads.
const MOST: usize = 3;

/// The servers that a resolv.conf names, without those at `own` addresses: asking oneself never ends.
pub(crate) fn servers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let addr = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        let (addr, scope) = addr.split_once('%').map_or((addr, None), |it| (it.0, Some(it.1)));
        let addr: IpAddr = addr.parse().ok()?;
        match (addr, scope.map(scope_id)) {
            (IpAddr::V6(v6), Some(scope)) => Some(std::net::SocketAddrV6::new(v6, 53, 0, scope?).into()),
            (addr, _) => Some(SocketAddr::new(addr, 53)),
        }
    });
    named.filter(|server| !own.contains(&server.ip())).take(MOST).collect()
}

fn scope_id(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| nix::net::if_::if_nametoindex(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_servers() {
        let check = |text: &str, wanted: &[&str]| {
            let own = ["10.96.0.10".parse().unwrap()];
            let got: Vec<String> = servers(text, &own).iter().map(|it| it.ip().to_string()).collect();
            assert_eq!(got, wanted, "{text:?}");
        };
        check("nameserver 192.0.2.1\nsearch a b\nnameserver\t2001:db8::1\n", &["192.0.2.1", "2001:db8::1"]);
        check("nameserver 10.96.0.10\nnameserver 192.0.2.1", &["192.0.2.1"]);
        check("# nameserver 1.1.1.1\nnameserver x\nnameserver fe80::1%1\noptions ndots:5", &["fe80::1"]);
        check(
            "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4",
            &["1.0.0.1", "1.0.0.2", "1.0.0.3"],
        );
        check("", &[]);
    }
}
