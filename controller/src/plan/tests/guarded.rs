//! Which addresses are guarded, as ClusterIPs or as part of a ServiceCIDR (rule E3).

use lb_ebpf::abi::{Addr, AddressRange, FrontendKind, SERVICE_RANGES, ServiceRangeFlags};

use super::{
    THREE,
    build::{frontend, ip, one, ranges, service},
    driver::{Driver, ROOMY},
};
use crate::{desired::DesiredFrontend, plan::Planner};

const SERVICE_CIDR: u32 = ServiceRangeFlags::SERVICE_CIDR;

fn guarded(planner: &Planner) -> Vec<(AddressRange, u32)> {
    let ranges = planner.service_ranges().into_iter();
    ranges.map(|range| (range.range, range.flags)).collect()
}

fn network(addr: &str, bits: u32) -> AddressRange {
    AddressRange::new(Addr::from(ip(addr)), bits)
}

#[test]
fn service_cidrs_are_guarded_and_cluster_ips_outside_of_them_but_no_other_address() {
    let mut driver = Driver::new(ROOMY);
    let mut web = service("web", "10.96.0.1", &THREE);
    let external = |kind, addr| DesiredFrontend {
        kind,
        ..frontend(addr, 80)
    };
    web.frontends.extend([
        external(FrontendKind::ExternalIp, "192.0.2.1"),
        external(FrontendKind::LoadBalancer, "203.0.113.1"),
    ]);
    driver.change(one(web));
    let cluster_ip = (network("10.96.0.1", 128), 0);
    assert_eq!(guarded(&driver.planner), [cluster_ip]);

    let cidrs = ranges(&["10.96.0.0/12", "fd00:96::/112"]);
    assert!(driver.planner.set_service_cidrs(&cidrs));
    let told = [
        (network("10.96.0.0", 96 + 12), SERVICE_CIDR),
        (network("fd00:96::", 112), SERVICE_CIDR),
    ];
    assert_eq!(guarded(&driver.planner), told);

    // Moved: what was told before counts no more.
    assert!(driver.planner.set_service_cidrs(&cidrs[1..]));
    assert_eq!(guarded(&driver.planner), [told[1], cluster_ip]);
}

#[test]
fn more_service_cidrs_than_places_leave_one_for_cluster_ips_elsewhere() {
    let mut driver = Driver::new(ROOMY);
    driver.change(one(service("web", "10.96.0.1", &THREE)));
    let many: Vec<_> = (0..SERVICE_RANGES)
        .map(|third| format!("10.{third}.0.0/24").parse().expect("a network"))
        .collect();
    assert!(driver.planner.set_service_cidrs(&many[1..]));
    assert!(!driver.planner.set_service_cidrs(&many));
    let guarded = guarded(&driver.planner);
    assert_eq!(guarded.len(), SERVICE_RANGES);
    assert_eq!(guarded.last(), Some(&(network("10.96.0.1", 128), 0)));
}
