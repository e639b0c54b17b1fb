//! Choosing an endpoint: KUBE-SVC-* and KUBE-SVL-*, which lead to KUBE-SEP-*.

use std::net::SocketAddr;

use super::{
    super::{names, service::ServiceView},
    tables::Tables,
};

/// Rules of `chain` that lead to one of `endpoints`: the remembered one (rule H1), else any with
/// the same chance (rule C15).
pub(super) fn choose(
    tables: &mut Tables,
    service: &ServiceView<'_>,
    chain: &str,
    endpoints: &[SocketAddr],
) {
    if let Some(seconds) = service.affinity() {
        for &endpoint in endpoints {
            let to = names::endpoint_chain(service, endpoint);
            let remembered =
                format!("-m recent --name {to} --rcheck --seconds {seconds} --reap -j {to}");
            tables.nat.rule(chain, &remembered);
        }
    }
    for (index, &endpoint) in endpoints.iter().enumerate() {
        let left = endpoints.len() - index;
        let chance = match left {
            1 => String::new(),
            _ => format!(
                "-m statistic --mode random --probability {:.10} ",
                1.0 / left as f64
            ),
        };
        let to = names::endpoint_chain(service, endpoint);
        tables.nat.rule(chain, &format!("{chance}-j {to}"));
    }
}

/// The chain of an endpoint: hairpins are masqueraded (rule G2), the client is remembered.
pub(super) fn endpoint(tables: &mut Tables, service: &ServiceView<'_>, endpoint: SocketAddr) {
    let chain = names::endpoint_chain(service, endpoint);
    let hairpin = format!("-s {} -j KUBE-MARK-MASQ", endpoint.ip());
    tables.nat.rule(&chain, &hairpin);
    let remember = match service.affinity() {
        Some(_) => format!("-m recent --name {chain} --set "),
        None => String::new(),
    };
    let protocol = service.protocol();
    let dnat = format!("{remember}-p {protocol} -m {protocol} -j DNAT --to-destination {endpoint}");
    tables.nat.rule(&chain, &dnat);
}
