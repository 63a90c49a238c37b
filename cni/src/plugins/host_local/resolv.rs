//! Name servers from a resolv.conf.

use crate::spec::{CniError, Code, Dns, Explain};
use std::path::Path;

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Dns, CniError> {
    let text =
        std::fs::read_to_string(path).explain(Code::Io, || format!("read resolvConf {}", path.display()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword() {
        let dns = parse(
            "# x\nnameserver 10.0.0.1\nnameserver fd00::1\ndomain a.b\nsearch a.b c.d\noptions ndots:5 rotate\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(
            (dns.domain.as_str(), dns.search, dns.options.len()),
            ("a.b", vec!["a.b".into(), "c.d".into()], 2)
        );
    }
}
