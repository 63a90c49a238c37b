//! The harness itself: a host is one, and nothing of it stays.

use coracle_tests::Host;

#[test]
fn a_host_has_its_own_name_network_and_processes() {
    let host = Host::new("alone");
    assert_eq!(host.sh("hostname").trim(), "alone");
    assert!(host.sh("ip -o addr show up0").contains("10.0.0.1/24"));
    assert_eq!(host.sh("ls /run").trim(), "host-ready\nlock\nnetns");
    assert!(host.sh("ps ax | wc -l").trim().parse::<u32>().is_ok_and(|it| it < 8));
}
