//! Where an API server takes ClusterIPs from: its ServiceCIDR says so, or, before Kubernetes 1.33,
//! the refusal of a Service whose ClusterIP is elsewhere.

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::super::OWN_RANGES;
use crate::{apiserver::Cidr, cluster::Families, objects::Http};

const SERVICE_CIDR: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
/// For real: servers before 1.22 do not look for the address in a dry run.
const ATTEMPT: &str = "/api/v1/namespaces/default/services";
/// Addresses of documentation, which no cluster uses; and the families they are of.
const ELSEWHERE: [(&str, &str); 2] = [("IPv4", "192.0.2.1"), ("IPv6", "2001:db8::1")];
/// What precedes the range in the refusal.
const RANGE_IS: &str = "The range of valid IPs is ";

/// The ranges of ClusterIPs, IPv4 and IPv6.
pub(in super::super) fn service_ranges(http: &Http, families: Families) -> Result<(Cidr, Cidr)> {
    let listed: Vec<Cidr> = match http.get(SERVICE_CIDR)? {
        Some(found) => {
            let cidrs = found["spec"]["cidrs"].as_array().into_iter().flatten();
            let cidrs = cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok());
            cidrs.collect()
        }
        None => ELSEWHERE
            .iter()
            .filter_map(|(family, address)| range_of_refusal(&refusal(http, family, address)?))
            .collect(),
    };
    chosen(&listed, families)
}

/// What the server says to a Service of this family with this address.
fn refusal(http: &Http, family: &str, address: &str) -> Option<String> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"generateName": "lb-conformance-", "namespace": "default"},
        "spec": {"clusterIP": address, "ipFamilies": [family], "ports": [{"port": 80}]},
    });
    match http.create(ATTEMPT, &service) {
        Ok(created) => {
            let name = created["metadata"]["name"].as_str().unwrap_or_default();
            http.delete(&format!("{ATTEMPT}/{name}"), None).ok()?;
            None
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

fn range_of_refusal(text: &str) -> Option<Cidr> {
    let (_, range) = text.split_once(RANGE_IS)?;
    let end = range.find(|c: char| !c.is_ascii_hexdigit() && !".:/".contains(c));
    let range = &range[..end.unwrap_or(range.len())];
    range.trim_end_matches([':', '.']).parse().ok()
}

fn chosen(listed: &[Cidr], families: Families) -> Result<(Cidr, Cidr)> {
    let range = |v4: bool, unused: &str| match listed.iter().find(|range| range.is_ipv4() == v4) {
        Some(range) => Ok(*range),
        None if families.has_v4() && v4 || families.has_v6() && !v4 => {
            bail!("the Services of this API server have other families: {listed:?}")
        }
        None => unused.parse().context("a range of our own"),
    };
    Ok((range(true, OWN_RANGES.0)?, range(false, OWN_RANGES.1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_servers_without_service_cidrs_name_the_range() {
        // Of Kubernetes 1.20 and 1.28.
        let old = "Service \"x\" is invalid: spec.clusterIPs: Invalid value: []string{\"192.0.2.1\"}: \
                   failed to allocated ip:192.0.2.1 with error:provided IP is not in the valid range. \
                   The range of valid IPs is 10.96.0.0/16: Invalid";
        let new = "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"2001:db8::1\"]: failed \
                   to allocate IP 2001:db8::1: the provided IP (2001:db8::1) is not in the valid range. \
                   The range of valid IPs is fd00:96::/112";
        let (old, new) = (range_of_refusal(old), range_of_refusal(new));
        assert_eq!(old, Some("10.96.0.0/16".parse().unwrap()));
        assert_eq!(new, Some("fd00:96::/112".parse().unwrap()));
        assert_eq!(range_of_refusal("services is forbidden"), None);
    }

    #[test]
    fn families_without_a_range_are_told() {
        let v4: Vec<Cidr> = vec!["10.96.0.0/16".parse().unwrap()];
        assert_eq!(chosen(&v4, Families::V4).unwrap().0, v4[0]);
        assert!(chosen(&v4, Families::Dual).is_err());
    }
}
