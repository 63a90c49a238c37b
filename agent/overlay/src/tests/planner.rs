use crate::config::Backend;
use crate::plan::{self, ALIAS, Action, Desired, Observed, PROTOCOL, Peer, PlanError};
use coracle_cni::Cidr;
use coracle_cni::netlink::{Address, FdbEntry, Link, Mac, Neighbour, RouteSpec, Vxlan};

const VXLAN: Backend = Backend::Vxlan { direct_routing: false };
const DIRECT: Backend = Backend::Vxlan { direct_routing: true };

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn peer(number: u8, address: &str) -> Peer {
    Peer {
        name: format!("n{number}"),
        address: address.parse().unwrap(),
        subnet: format!("10.244.{number}.0/24").parse().unwrap(),
        mac: Some(mac(number)),
    }
}

fn desired(backend: Backend, peers: Vec<Peer>) -> Desired {
    Desired {
        address: "192.0.2.1".parse().unwrap(),
        subnet: "10.244.0.0/24".parse().unwrap(),
        mac: mac(0),
        backend,
        vni: 1,
        port: 8472,
        peers,
    }
}

fn host() -> Observed {
    let link = Link { index: 2, name: "eth0".into(), mtu: 1500, up: true, ..Link::default() };
    let address = address(2, "192.0.2.1/24");
    Observed { links: vec![link], addresses: vec![address], ..Observed::default() }
}

fn address(link: u32, cidr: &str) -> Address {
    Address { link, cidr: cidr.parse().unwrap(), link_scope: false, tentative: false, duplicate: false }
}

fn vxlan() -> Link {
    let local = Some("192.0.2.1".parse().unwrap());
    Link {
        index: 7,
        name: "flannel.1".into(),
        kind: "vxlan".into(),
        mac: Some(mac(0)),
        mtu: 1450,
        up: true,
        alias: ALIAS.into(),
        vxlan: Some(Vxlan { id: 1, port: 8472, local, parent: Some(2), learning: false }),
        ..Link::default()
    }
}

/// The host with all that one peer needs.
fn joined() -> Observed {
    let mut host = host();
    host.links.push(vxlan());
    host.addresses.push(address(7, "10.244.0.0/32"));
    host.fdb.push(FdbEntry { link: 7, mac: mac(3), host: "192.0.2.3".parse().unwrap() });
    host.neighbours.push(Neighbour { link: 7, addr: "10.244.3.0".parse().unwrap(), mac: mac(3) });
    host.routes.push(route("10.244.3.0/24", "10.244.3.0", 7));
    host
}

fn route(dst: &str, gateway: &str, link: u32) -> RouteSpec {
    RouteSpec {
        dst: dst.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        link,
        priority: 0,
        table: Some(254),
        scope: Some(0),
        mtu: 0,
        advmss: 0,
        onlink: link == 7,
        protocol: Some(PROTOCOL),
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::DeleteLink(link) => format!("-link {link}"),
        Action::CreateLink { name, mac, mtu, vxlan } => {
            let (id, port) = (vxlan.id, vxlan.port);
            format!("+link {name} {mac} mtu {mtu} id {id} port {port} parent {:?}", vxlan.parent)
        }
        Action::ChangeLink(link, change) => format!("link {link} {change}"),
        Action::AddAddress(link, cidr) => format!("+address {cidr} {link}"),
        Action::DeleteAddress(link, cidr) => format!("-address {cidr} {link}"),
        Action::SetFdb(it) => format!("+fdb {} {}", it.mac, it.host),
        Action::DeleteFdb(it) => format!("-fdb {} {}", it.mac, it.host),
        Action::SetNeighbour(it) => format!("+neighbour {} {}", it.addr, it.mac),
        Action::DeleteNeighbour(it) => format!("-neighbour {} {}", it.addr, it.mac),
        Action::SetRoute(it) => {
            let onlink = if it.onlink { " onlink" } else { "" };
            format!("+route {} {} link {}{onlink}", it.dst, it.gateway.unwrap(), it.link)
        }
        Action::DeleteRoute(it) => format!("-route {} link {}", it.dst, it.link),
    }
}

#[track_caller]
fn check(desired: &Desired, observed: &Observed, wanted: &[&str]) {
    let actions = plan::plan(desired, observed).unwrap();
    assert_eq!(actions.iter().map(show).collect::<Vec<_>>(), wanted);
}

#[test]
fn alone_nothing_is_made() {
    check(&desired(VXLAN, vec![]), &host(), &[]);
    let mut foreign = joined();
    foreign.links[1].alias.clear();
    foreign.routes[0].protocol = Some(3);
    check(&desired(VXLAN, vec![]), &foreign, &[]);
    check(&desired(VXLAN, vec![]), &joined(), &["-link 7", "-route 10.244.3.0/24 link 7"]);
}

#[test]
fn the_first_peer_makes_a_link_and_then_its_entries() {
    let wanted = desired(VXLAN, vec![peer(3, "192.0.2.3")]);
    let create = "+link flannel.1 02:00:00:00:00:00 mtu 1450 id 1 port 8472 parent Some(2)";
    check(&wanted, &host(), &[create]);
    let mut made = host();
    made.links.push(Link { up: false, alias: String::new(), ..vxlan() });
    check(
        &wanted,
        &made,
        &[
            "link 7 up true, alias coracle overlay",
            "+address 10.244.0.0/32 7",
            "+fdb 02:00:00:00:00:03 192.0.2.3",
            "+neighbour 10.244.3.0 02:00:00:00:00:03",
            "+route 10.244.3.0/24 10.244.3.0 link 7 onlink",
        ],
    );
    check(&wanted, &joined(), &[]);
    made.links[1].vxlan.as_mut().unwrap().port = 4789;
    check(&wanted, &made, &["-link 7", create]);
}

#[test]
fn what_somebody_changed_is_repaired() {
    let wanted = desired(VXLAN, vec![peer(3, "192.0.2.3")]);
    let one = |change: fn(&mut Observed), actions: &[&str]| {
        let mut observed = joined();
        change(&mut observed);
        check(&wanted, &observed, actions);
    };
    one(|it| it.routes.clear(), &["+route 10.244.3.0/24 10.244.3.0 link 7 onlink"]);
    one(|it| it.routes[0].link = 2, &["+route 10.244.3.0/24 10.244.3.0 link 7 onlink"]);
    one(|it| it.routes[0].protocol = Some(3), &[]);
    one(|it| it.fdb.clear(), &["+fdb 02:00:00:00:00:03 192.0.2.3"]);
    one(|it| it.neighbours[0].mac = mac(9), &["+neighbour 10.244.3.0 02:00:00:00:00:03"]);
    one(|it| it.links[0].mtu = 9000, &["link 7 mtu 8950"]);
    one(|it| it.links[1].up = false, &["link 7 up true"]);
    one(
        |it| it.addresses[1].cidr = "10.244.9.0/32".parse().unwrap(),
        &["-address 10.244.9.0/32 7", "+address 10.244.0.0/32 7"],
    );
}

#[test]
fn nodes_that_move_or_vanish_leave_nothing() {
    let moved = desired(VXLAN, vec![peer(3, "192.0.2.33")]);
    check(&moved, &joined(), &["+fdb 02:00:00:00:00:03 192.0.2.33"]);
    let mut again = peer(3, "192.0.2.3");
    again.mac = Some(mac(8));
    check(
        &desired(VXLAN, vec![again]),
        &joined(),
        &[
            "-fdb 02:00:00:00:00:03 192.0.2.3",
            "+fdb 02:00:00:00:00:08 192.0.2.3",
            "+neighbour 10.244.3.0 02:00:00:00:00:08",
        ],
    );
    let mut both = joined();
    both.routes.push(route("10.244.4.0/24", "192.0.2.4", 2));
    both.routes.push(RouteSpec { protocol: Some(3), ..route("10.9.0.0/16", "192.0.2.4", 2) });
    check(
        &desired(VXLAN, vec![peer(5, "192.0.2.5")]),
        &both,
        &[
            "-fdb 02:00:00:00:00:03 192.0.2.3",
            "-neighbour 10.244.3.0 02:00:00:00:00:03",
            "+fdb 02:00:00:00:00:05 192.0.2.5",
            "+neighbour 10.244.5.0 02:00:00:00:00:05",
            "-route 10.244.3.0/24 link 7",
            "-route 10.244.4.0/24 link 2",
            "+route 10.244.5.0/24 10.244.5.0 link 7 onlink",
        ],
    );
}

#[test]
fn nodes_in_the_same_network_by_plain_routes() {
    let peers = vec![peer(3, "192.0.2.3"), peer(4, "198.51.100.4")];
    check(
        &desired(DIRECT, peers),
        &joined(),
        &[
            "-fdb 02:00:00:00:00:03 192.0.2.3",
            "-neighbour 10.244.3.0 02:00:00:00:00:03",
            "+fdb 02:00:00:00:00:04 198.51.100.4",
            "+neighbour 10.244.4.0 02:00:00:00:00:04",
            "+route 10.244.3.0/24 192.0.2.3 link 2",
            "+route 10.244.4.0/24 10.244.4.0 link 7 onlink",
        ],
    );
    check(
        &desired(Backend::HostGw, vec![peer(3, "192.0.2.3")]),
        &joined(),
        &["-link 7", "+route 10.244.3.0/24 192.0.2.3 link 2"],
    );
}

#[test]
fn no_way_out_is_said() {
    let wanted = desired(VXLAN, vec![peer(3, "192.0.2.3")]);
    let mut lost = host();
    lost.addresses.clear();
    assert_eq!(plan::plan(&wanted, &lost).unwrap_err(), PlanError::NoUplink("192.0.2.1".parse().unwrap()));
    let mut taken = host();
    taken.links.push(Link { index: 7, name: "flannel.1".into(), kind: "bridge".into(), ..Link::default() });
    assert!(matches!(plan::plan(&wanted, &taken), Err(PlanError::NameTaken { .. })));
}

#[test]
fn the_same_network_or_address_twice_is_refused() {
    let own: Cidr = "10.244.0.0/24".parse().unwrap();
    let with = |number, subnet: &str, last| Peer {
        subnet: subnet.parse().unwrap(),
        mac: Some(mac(last)),
        ..peer(number, "192.0.2.9")
    };
    let all = vec![
        with(5, "10.244.5.0/24", 3),
        with(4, "10.244.3.128/25", 4),
        with(3, "10.244.3.0/24", 3),
        with(2, "10.244.0.0/16", 2),
        with(6, "10.244.6.0/24", 6),
    ];
    let (good, bad) = plan::distinct(own, all);
    let names = |all: &[Peer]| all.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&good), names(&bad)),
        (vec!["n3".into(), "n6".into()], vec!["n2".into(), "n4".into(), "n5".into()])
    );
}

#[test]
fn packets_are_as_large_as_the_way_out_allows() {
    let v4 = "192.0.2.1".parse().unwrap();
    assert_eq!(plan::pod_mtu(v4, VXLAN, &host()), Some(1450));
    assert_eq!(plan::pod_mtu(v4, Backend::HostGw, &host()), Some(1500));
    assert_eq!(plan::pod_mtu("192.0.2.9".parse().unwrap(), VXLAN, &host()), None);
}
