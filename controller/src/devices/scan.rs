//! Asks rtnetlink for all links, addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{Error, Handle, RouteMessageBuilder};

use super::{Address, Inventory, Link, LinkKind, Route};

/// `RT_TABLE_LOCAL`: what is delivered on this host.
const TABLE_LOCAL: u8 = 255;

/// Everything as it is. Links that come or go meanwhile may be missing: an event tells.
pub(super) async fn scan(handle: &Handle) -> Result<Inventory, Error> {
    let links: Vec<_> = handle.link().get().execute().try_collect().await?;
    let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
    let mut routes = Vec::new();
    for filter in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let mut found = Box::pin(handle.route().get(filter).execute());
        while let Some(message) = found.try_next().await? {
            add_routes(&message, &mut routes);
        }
    }
    Ok(Inventory {
        links: links.iter().filter_map(link).collect(),
        addresses: addresses.iter().filter_map(address).collect(),
        routes,
    })
}

fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Nic,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        mtu: 0,
        master: None,
        peer_elsewhere: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(master) => link.master = Some(*master).filter(|m| *m != 0),
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                let kinds = infos.iter().filter_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
                link.kind = kinds.map(kind).next().unwrap_or(link.kind);
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn kind(kind: &InfoKind) -> LinkKind {
    match kind {
        InfoKind::Bond | InfoKind::Team => LinkKind::Bond,
        InfoKind::Veth | InfoKind::Netkit => LinkKind::Pair,
        InfoKind::Bridge => LinkKind::Bridge,
        InfoKind::Tun => LinkKind::Tap,
        InfoKind::Dummy | InfoKind::Ifb | InfoKind::Nlmon | InfoKind::Vrf => LinkKind::Silent,
        InfoKind::Vxlan
        | InfoKind::Geneve
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::GreTun
        | InfoKind::GreTun6
        | InfoKind::IpIp
        | InfoKind::Ip6Tnl
        | InfoKind::SitTun
        | InfoKind::Vti
        | InfoKind::Vti6
        | InfoKind::Wireguard
        | InfoKind::Xfrm
        | InfoKind::BareUdp
        | InfoKind::ErSpan
        | InfoKind::Ip6ErSpan => LinkKind::Tunnel,
        _ => LinkKind::Nic,
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    let unusable = AddressFlags::Secondary
        | AddressFlags::Deprecated
        | AddressFlags::Tentative
        | AddressFlags::Dadfailed;
    // An address that another host has, too.
    if flags.contains(AddressFlags::Dadfailed) {
        return None;
    }
    Some(Address {
        link: message.header.index,
        // On point-to-point links, the other attribute is the far end.
        ip: local.or(peer)?,
        prefix_len: message.header.prefix_len,
        preferred: !flags.intersects(unusable),
    })
}

fn add_routes(message: &RouteMessage, routes: &mut Vec<Route>) {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table == TABLE_LOCAL {
        return;
    }
    let (mut network, mut source, mut metric) = (unspecified(header.address_family), None, 0);
    let mut links = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(ip) => network = ip_of(ip).or(network),
            RouteAttribute::PrefSource(ip) => source = ip_of(ip),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(link) => links.push(*link),
            RouteAttribute::MultiPath(hops) => {
                links.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    let Some(network) = network else { return };
    routes.extend(links.into_iter().map(|link| Route {
        link,
        destination: (network, header.destination_prefix_length),
        source,
        metric,
    }));
}

fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
