//! Look at the kernel, carry a plan out.

use crate::masquerade::{self, TABLE};
use crate::plan::{ALIAS, Action, Observed, PROTOCOL};
use coracle_cni::Cidr;
use coracle_cni::netlink::nft::{Batch, Family};
use coracle_cni::netlink::{LinkKind, Netlink, NetlinkError, NewLink};

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("program the pod network across hosts")]
pub struct KernelError(#[from] NetlinkError);

/// The kernel of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Kernel {
    route: Netlink,
    filter: Netlink,
}

impl Kernel {
    /// Opens the ways to it, in the calling thread's namespace.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { route: Netlink::open()?, filter: Netlink::open_netfilter()? })
    }

    /// All that plans look at.
    pub fn observe(&self) -> Result<Observed, KernelError> {
        let fdb = match self.route.fdb() {
            Err(error) if error.is_unsupported() => Vec::new(),
            found => found?,
        };
        Ok(Observed {
            links: self.route.links()?,
            addresses: self.route.all_addresses()?,
            routes: self.route.routes()?,
            neighbours: self.route.neighbours()?,
            fdb,
        })
    }

    /// Takes one step. What was to go and is gone already is fine.
    pub fn act(&self, action: &Action) -> Result<(), KernelError> {
        let route = &self.route;
        let (done, removal) = match action {
            Action::DeleteLink(index) => (route.delete_link(*index), true),
            Action::CreateLink { name, mac, mtu, vxlan } => {
                let kind = LinkKind::Vxlan(*vxlan);
                let new = NewLink { name, kind, mtu: Some(*mtu), mac: Some(*mac), netns: None };
                (route.create_link(&new), false)
            }
            Action::ChangeLink(index, change) => (route.change_link(*index, change), false),
            Action::AddAddress(index, cidr) => (route.add_address(*index, *cidr, false), false),
            Action::DeleteAddress(index, cidr) => (route.delete_address(*index, *cidr), true),
            Action::SetFdb(entry) => (route.set_fdb(entry), false),
            Action::DeleteFdb(entry) => (route.delete_fdb(entry), true),
            Action::SetNeighbour(entry) => (route.set_neighbour(entry), false),
            Action::DeleteNeighbour(entry) => (route.delete_neighbour(entry), true),
            Action::SetRoute(spec) => (route.replace_route(spec), false),
            Action::DeleteRoute(spec) => (route.delete_route(spec), true),
        };
        match done {
            Err(error) if removal && error.is_not_found() => Ok(()),
            done => Ok(done?),
        }
    }

    /// Lets pods of `own` leave the cluster with the host's address.
    pub fn masquerade(&self, own: &[Cidr], networks: &[Cidr]) -> Result<(), KernelError> {
        Ok(masquerade::ensure(&self.filter, own, networks)?)
    }
}

/// Removes what the overlay put into the kernel: its links, routes and rules.
pub fn cleanup() -> Result<(), KernelError> {
    let route = Netlink::open()?;
    for link in route.links()?.into_iter().filter(|it| it.alias == ALIAS && it.kind == "vxlan") {
        gone(route.delete_link(link.index))?;
    }
    for it in route.routes()?.into_iter().filter(|it| it.protocol == Some(PROTOCOL)) {
        gone(route.delete_route(&it))?;
    }
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.delete_table();
    match batch.commit(&Netlink::open_netfilter()?) {
        Err(error) if error.is_unsupported() => Ok(()),
        done => gone(done),
    }
}

fn gone(done: Result<(), NetlinkError>) -> Result<(), KernelError> {
    match done {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
