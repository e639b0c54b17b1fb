//! What clients outside the cluster need: external entries, NodePorts, source ranges,
//! local backends for DSR, and bits that outlive their frontends.

use lb_ebpf::abi::{Addr, BackendFlags, FrontendFlags, FrontendKey, LocalBackendKey, Scope};
use lb_ebpf::abi::{SourceRangeKey, map};

use super::{
    THREE,
    build::{MEMBER, SERVES, backend, ip, local_vip, name, node_port, one, ranges, service},
    driver::{Desired, Driver, ROOMY},
    holder, key,
};
use crate::{
    desired::{DesiredService, Forwarding},
    model::{Family, Protocol},
    plan::{Batch, Limits},
};

/// `owner` with a restricted VIP at 192.0.2.`host`:80.
pub(super) fn restricted(owner: &str, host: u8, sources: &[&str]) -> DesiredService {
    let cluster_ip = format!("10.96.0.{host}");
    let mut service = service(owner, &cluster_ip, &THREE);
    let flags = if sources.is_empty() {
        0
    } else {
        FrontendFlags::SOURCE_RANGES
    };
    service
        .frontends
        .extend(local_vip(&format!("192.0.2.{host}"), 80, flags));
    service.source_ranges = ranges(sources);
    service
}

/// A DSR service with two backends on this node and one elsewhere.
pub(super) fn direct() -> DesiredService {
    let local = SERVES | BackendFlags::LOCAL;
    DesiredService {
        forwarding: Forwarding::Dsr,
        backends: vec![
            backend("10.1.0.1", local),
            backend("10.1.0.2", SERVES),
            backend("10.1.0.3", local | BackendFlags::IN_CLUSTER_SET),
        ],
        ..service("web", "10.96.0.1", &[])
    }
}

fn locals(driver: &Driver) -> Vec<String> {
    let keys = driver.memory.locals.keys();
    let mut addrs: Vec<_> = keys.map(|key| key.addr.to_ip().to_string()).collect();
    addrs.sort();
    addrs
}

fn limited(source_ranges: u32, local_backends: u32) -> Driver {
    let mut driver = Driver::new(ROOMY);
    driver.planner.limit(Limits {
        source_ranges,
        local_backends,
    });
    driver
}

#[test]
fn external_entry_is_written_before_the_internal_one_that_refers_to_it() {
    let batch = Driver::new(ROOMY).change(one(restricted("web", 1, &[])));
    let scopes: Vec<_> = batch
        .frontends
        .iter()
        .filter(|(key, _)| key.addr == Addr::from(ip("192.0.2.1")))
        .map(|(key, entry)| (key.scope, entry.flags & FrontendFlags::EXTERNAL_DIFFERS))
        .collect();
    let external = (Scope::External as u8, 0);
    let internal = (Scope::Internal as u8, FrontendFlags::EXTERNAL_DIFFERS);
    assert_eq!(scopes, [external, internal]);
}

#[test]
fn external_entry_that_is_no_longer_needed_goes_alone() {
    let mut driver = Driver::new(ROOMY);
    let mut web = restricted("web", 1, &[]);
    driver.change(one(web.clone()));
    web.frontends.remove(1);
    web.frontends[1].flags = 0;
    let batch = driver.change(one(web));
    let vip = key("192.0.2.1", 80);
    assert_eq!(batch.removed_frontends, [vip.in_scope(Scope::External)]);
    assert_eq!(batch.frontends.len(), 1);
    assert_eq!(
        driver.planner.retired().count(),
        0,
        "the VIP is still there"
    );
    assert_eq!(driver.planner.usage().frontends, 2);
}

#[test]
fn contested_vip_and_node_port_are_held_with_both_scopes() {
    let with_node_port = |owner: &str, host: u8| {
        let mut service = restricted(owner, host, &[]);
        service.frontends.truncate(1);
        service.frontends.extend(local_vip("192.0.2.9", 80, 0));
        service.frontends.push(node_port(30_080));
        service
    };
    let vip = key("192.0.2.9", 80);
    let port = key("0.0.0.0", 30_080);
    let all = [vip, vip.in_scope(Scope::External), port];
    let mut driver = Driver::new(ROOMY);
    driver.change(one(with_node_port("b", 2)));
    driver.change(one(with_node_port("a", 1)));
    for entry in all {
        assert_eq!(holder(&driver, &entry).as_deref(), Some("a"), "{entry:?}");
    }
    assert_eq!(driver.planner.usage().frontends, 2 + 3);

    // A holder without an external entry does not leave the other's behind.
    let mut a = with_node_port("a", 1);
    a.frontends.remove(1);
    a.frontends[1].flags = 0;
    driver.change(one(a));
    assert_eq!(holder(&driver, &vip).as_deref(), Some("a"));
    assert_eq!(holder(&driver, &all[1]), None);

    driver.change(Desired::from([(name("a"), vec![])]));
    for entry in all {
        assert_eq!(holder(&driver, &entry).as_deref(), Some("b"), "{entry:?}");
    }
}

#[test]
fn node_port_has_a_bit_of_its_own_for_both_families() {
    let mut driver = Driver::new(ROOMY);
    let mut v4 = service("web", "10.96.0.1", &THREE);
    v4.frontends = vec![node_port(30_080)];
    let mut v6 = v4.clone();
    v6.key.family = Family::V6;
    v6.frontends[0].addr = ip("::");
    let batch = driver.change(Desired::from([(name("web"), vec![v4.clone(), v6])]));
    assert_eq!(batch.node_ports_set, [(30_080 / 64, 1 << (30_080 % 64))]);
    assert_eq!(batch.filter_set, []);
    assert_eq!(batch.frontends.len(), 2);

    driver.change(one(v4));
    assert_eq!(driver.retire().node_ports_cleared, [], "IPv4 needs the bit");
    driver.change(Desired::from([(name("web"), vec![])]));
    assert_eq!(driver.retire().node_ports_cleared, batch.node_ports_set);

    let mut udp = service("dns", "10.96.0.2", &THREE);
    udp.key.protocol = Protocol::Udp;
    udp.frontends = vec![node_port(30_080)];
    let batch = driver.change(one(udp));
    assert_eq!(batch.node_ports_set[0].0, 1024 + 30_080 / 64);
}

#[test]
fn source_ranges_are_written_with_their_service_and_mapped_length() {
    let mut web = restricted("web", 1, &["10.0.0.0/8", "192.0.2.1/32"]);
    web.source_ranges = ranges(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]);
    let batch = Driver::new(ROOMY).change(one(web));
    let mut written: Vec<_> = batch
        .source_ranges
        .iter()
        .map(|key| (key.prefix_len, key.range.addr.to_ip()))
        .collect();
    written.sort();
    assert_eq!(
        written,
        [
            (32 + 32, ip("2001:db8::")),
            (32 + 96 + 8, ip("10.0.0.0")),
            (SourceRangeKey::FULL, ip("192.0.2.1")),
        ]
    );
    assert!(
        batch
            .source_ranges
            .iter()
            .all(|key| key.range.service_id == 0)
    );
}

#[test]
fn changed_source_ranges_cost_their_difference_only() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(restricted("web", 1, &["10.0.0.0/8", "172.16.0.0/12"])));
    let batch = driver.change(one(restricted(
        "web",
        1,
        &["10.0.0.0/8", "198.51.100.0/24"],
    )));
    assert_eq!(batch.source_ranges.len(), 1);
    assert_eq!(batch.removed_source_ranges.len(), 1);
    assert_eq!(batch.len(), 2);
    let batch = driver.change(one(restricted("web", 1, &[])));
    assert_eq!(batch.removed_source_ranges.len(), 2);
    assert_eq!(batch.frontends.len(), 2, "both scopes lose their flag");
    assert_eq!(driver.memory.ranges.len(), 0);
}

#[test]
fn reused_service_id_has_no_source_ranges_of_its_predecessor() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(restricted("old", 1, &["10.0.0.0/8"])));
    driver.change(Desired::from([(name("old"), vec![])]));
    assert_eq!(driver.memory.ranges.len(), 0);
    driver.release();
    let batch = driver.change(one(restricted("new", 2, &["192.0.2.0/24"])));
    assert_eq!(
        batch.source_ranges[0].range.service_id, 0,
        "the id is reused"
    );
    assert_eq!(driver.memory.ranges.len(), 1);
}

#[test]
fn source_ranges_that_do_not_fit_starve_their_service_only_and_fit_later() {
    let mut driver = limited(2, 0);
    driver.change(one(restricted("a", 1, &["10.0.0.0/8"])));
    let wanted = ["10.0.0.0/8", "192.0.2.0/24"];
    let batch = driver.change(one(restricted("b", 2, &wanted)));
    assert_eq!(batch.starved.get(&name("b")), Some(&map::SOURCE_RANGES));
    assert_eq!(batch.source_ranges.len(), 1, "as many as fit");
    let vip = driver.memory.services[&key("192.0.2.2", 80)];
    assert!(
        vip.flags & FrontendFlags::SOURCE_RANGES != 0,
        "still restricted"
    );
    driver.change(one(service("c", "10.96.0.3", &THREE)));
    assert_eq!(holder(&driver, &key("10.96.0.3", 80)).as_deref(), Some("c"));

    driver.change(Desired::from([(name("a"), vec![])]));
    let batch = driver.change(one(restricted("b", 2, &wanted)));
    assert_eq!(batch.starved.len(), 0);
    assert_eq!(driver.memory.ranges.len(), 2);
}

#[test]
fn dsr_service_names_its_backends_of_this_node() {
    let mut driver = Driver::new(ROOMY);
    let mut web = direct();
    let batch = driver.change(one(web.clone()));
    assert_eq!(locals(&driver), ["10.1.0.1", "10.1.0.3"]);
    assert_eq!(batch.infos[0].1.forwarding, 1);

    web.backends.remove(0);
    let batch = driver.change(one(web.clone()));
    assert_eq!(batch.removed_local_backends.len(), 1);
    web.forwarding = Forwarding::Snat;
    driver.change(one(web));
    assert_eq!(locals(&driver), [""; 0]);
}

#[test]
fn of_local_backends_with_one_address_the_lowest_port_is_named() {
    let mut driver = Driver::new(ROOMY);
    let mut web = direct();
    let mut other = web.backends[0].clone();
    other.port = 9090;
    web.backends.insert(1, other);
    driver.change(one(web));
    let key = LocalBackendKey {
        addr: Addr::from(ip("10.1.0.1")),
        service_id: 0,
    };
    let slot = driver.memory.locals[&key];
    assert_eq!(driver.memory.backends[slot as usize].port.get(), 8080);
}

#[test]
fn local_backends_that_do_not_fit_starve_their_service_only() {
    let mut driver = limited(0, 1);
    let batch = driver.plan(one(direct()));
    assert_eq!(batch.starved.get(&name("web")), Some(&map::LOCAL_BACKENDS));
    assert_eq!(batch.local_backends.len(), 1);
    assert_eq!(batch.frontends.len(), 1);
}

#[test]
fn bit_of_a_removed_frontend_stays_until_no_flow_needs_it() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    web.frontends.push(node_port(30_080));
    driver.change(one(web));
    let batch = driver.change(Desired::from([(name("web"), vec![])]));
    assert_eq!(batch.removed_frontends.len(), 2);
    assert_eq!(
        (batch.filter_cleared, batch.node_ports_cleared),
        (vec![], vec![])
    );
    let batch = driver.retire();
    assert_eq!(batch.filter_cleared.len(), 1);
    assert_eq!(batch.node_ports_cleared.len(), 1);
    assert_eq!(driver.planner.retired().count(), 0);
    assert_eq!(driver.retire(), Batch::default());
}

#[test]
fn bit_that_one_batch_clears_and_sets_is_set() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    web.frontends.push(node_port(30_080));
    driver.change(one(web.clone()));
    driver.change(Desired::from([(name("web"), vec![])]));
    let done: Vec<_> = driver.planner.retired().collect();
    let mut batch = Batch::default();
    driver.planner.retire_done(&done, &mut batch);
    assert_eq!(batch.len(), 2);
    let planned = driver.planner.plan(&name("web"), &[web], &mut batch);
    planned.expect("room");
    driver.memory.apply(&batch);
    driver.memory.check_settled();
}

#[test]
fn c11_c12_a_frontend_drops_only_without_backends_and_only_where_a_policy_is_why() {
    let vip = key("192.0.2.1", 80);
    let drops = |flags: &[u32]| {
        let mut web = restricted("web", 1, &[]);
        let backends = THREE.iter().zip(flags);
        web.backends = backends
            .map(|(addr, flags)| backend(addr, *flags))
            .collect();
        let mut driver = Driver::new(ROOMY);
        driver.change(one(web));
        [vip, vip.in_scope(Scope::External)]
            .map(|key| driver.memory.services[&key].flags & FrontendFlags::DROP != 0)
    };
    let local = MEMBER | BackendFlags::IN_LOCAL_SET | BackendFlags::LOCAL;
    assert_eq!(drops(&[]), [false, true]);
    assert_eq!(drops(&[MEMBER]), [false, true]);
    assert_eq!(drops(&[MEMBER, local]), [false, false]);
}

#[test]
fn scan_from_before_a_frontend_came_back_does_not_shut_it_out() {
    let mut driver = Driver::new(ROOMY);
    let web = one(service("web", "10.96.0.1", &THREE));
    let gone = Desired::from([(name("web"), vec![])]);
    driver.change(web.clone());
    driver.change(gone.clone());
    let seen: Vec<_> = driver.planner.retired().collect();
    let vip = key("10.96.0.1", 80);
    assert_eq!(
        seen.iter().map(|r| r.key).collect::<Vec<FrontendKey>>(),
        [vip]
    );

    let batch = driver.change(web);
    assert_eq!(batch.filter_set, [], "the bit is still set");
    let mut batch = Batch::default();
    driver.planner.retire_done(&seen, &mut batch);
    assert_eq!(batch, Batch::default(), "it is there again");

    driver.change(gone);
    driver.planner.retire_done(&seen, &mut batch);
    assert_eq!(batch, Batch::default(), "it was retired anew meanwhile");
    assert_eq!(driver.retire().filter_cleared.len(), 1);
}
