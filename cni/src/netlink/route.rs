//! Routes.

use super::addr::family;
use super::message::{Message, find, ip_bytes, ip_of, u32_of};
use super::socket::{Netlink, NetlinkError};
use crate::address::Cidr;
use std::net::IpAddr;

const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const METRICS: u16 = 8;
const TABLE: u16 = 15;
const METRIC_MTU: u16 = 2;
const METRIC_ADVMSS: u16 = 8;
const TABLE_MAIN: u32 = 254;
const PROTOCOL_BOOT: u8 = 3; // made by hand, as `ip route` does
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
const ON_LINK: u8 = 4;

/// One route through a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// Where to.
    pub dst: Cidr,
    /// Through which router; none when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link's number.
    pub link: u32,
    /// The smaller, the more it is preferred; 0 is the kernel's default.
    pub priority: u32,
    /// The routing table; main when absent.
    pub table: Option<u32>,
    /// The kernel's scope number; by the gateway when absent.
    pub scope: Option<u8>,
    /// The path's maximum packet size; 0 is the link's.
    pub mtu: u32,
    /// The segment size to announce; 0 is the kernel's choice.
    pub advmss: u32,
    /// The gateway is on the link, whatever the link's addresses say.
    pub onlink: bool,
    /// The kernel's number for whoever made it; as by hand when absent.
    pub protocol: Option<u8>,
}

impl Netlink {
    /// Adds a route; there already is an error.
    pub fn add_route(&self, route: &RouteSpec) -> Result<(), NetlinkError> {
        let message = write(NEW_ROUTE, CREATE | EXCLUSIVE, route);
        let via = route.gateway.map(|it| format!(" through {it}")).unwrap_or_default();
        self.change(message, || format!("add route to {}{via}", route.dst))
    }

    /// Adds a route, in place of one with the same destination, table and priority.
    pub fn replace_route(&self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.change(write(NEW_ROUTE, CREATE | REPLACE, route), || format!("set the route to {}", route.dst))
    }

    /// Removes a route.
    pub fn delete_route(&self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.change(write(DEL_ROUTE, 0, route), || format!("remove the route to {}", route.dst))
    }

    /// All unicast routes of all tables, local ones excepted.
    pub fn routes(&self) -> Result<Vec<RouteSpec>, NetlinkError> {
        self.dump(|| Message::new(GET_ROUTE, 0, &[0; 12]), || "list routes".into(), read)
    }
}

fn write(kind: u16, flags: u16, route: &RouteSpec) -> Message {
    let universe = route.gateway.is_some() || !route.dst.is_ipv4();
    let scope = route.scope.unwrap_or(if universe { SCOPE_UNIVERSE } else { SCOPE_LINK });
    let table = route.table.unwrap_or(TABLE_MAIN);
    let short_table = u8::try_from(table).unwrap_or(0);
    let marks = u32::from(if route.onlink { ON_LINK } else { 0 }).to_ne_bytes();
    let protocol = route.protocol.unwrap_or(PROTOCOL_BOOT);
    let mut fixed = [0; 12];
    fixed[..8].copy_from_slice(&[
        family(route.dst),
        route.dst.prefix(),
        0,
        0,
        short_table,
        protocol,
        scope,
        UNICAST,
    ]);
    fixed[8..].copy_from_slice(&marks);
    let mut message = Message::new(kind, flags, &fixed);
    if route.dst.prefix() > 0 {
        message.attr(DST, &ip_bytes(route.dst.network().addr()));
    }
    if let Some(gateway) = route.gateway {
        message.attr(GATEWAY, &ip_bytes(gateway));
    }
    message.attr_u32(OIF, route.link).attr_u32(TABLE, table);
    if route.priority > 0 {
        message.attr_u32(PRIORITY, route.priority);
    }
    if route.mtu > 0 || route.advmss > 0 {
        message.nest(METRICS, &[], |metrics| {
            for (kind, value) in [(METRIC_MTU, route.mtu), (METRIC_ADVMSS, route.advmss)] {
                if value > 0 {
                    metrics.attr_u32(kind, value);
                }
            }
        });
    }
    message
}

fn read(body: &[u8]) -> Option<RouteSpec> {
    let (fixed, attributes) = body.split_at_checked(12)?;
    if fixed[7] != UNICAST {
        return None;
    }
    let any: IpAddr = if fixed[0] == 2 { [0; 4].into() } else { [0; 16].into() };
    let dst = find(attributes, DST).and_then(ip_of).unwrap_or(any);
    let number = |kind| find(attributes, kind).and_then(u32_of);
    let metric = |kind| find(attributes, METRICS).and_then(|it| find(it, kind)).and_then(u32_of).unwrap_or(0);
    Some(RouteSpec {
        dst: Cidr::new(dst, fixed[1]).ok()?,
        gateway: find(attributes, GATEWAY).and_then(ip_of),
        link: number(OIF)?,
        priority: number(PRIORITY).unwrap_or(0),
        table: number(TABLE).or(Some(fixed[4].into())),
        scope: Some(fixed[6]),
        mtu: metric(METRIC_MTU),
        advmss: metric(METRIC_ADVMSS),
        onlink: u32_of(&fixed[8..])? & u32::from(ON_LINK) != 0,
        protocol: Some(fixed[5]),
    })
}
