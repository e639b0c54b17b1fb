//! ServiceCIDR objects.
#![forbid(unsafe_code)]

use k8s_openapi::api::networking::v1::ServiceCIDR;

use crate::model::IpNet;

/// The networks of `spec.cidrs`; what is none is skipped with a log. A network may be
/// written with an address of a host in it.
pub(super) fn convert(name: &str, object: &ServiceCIDR) -> Box<[IpNet]> {
    let listed = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref());
    super::networks("ServiceCIDR", name, listed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{convert::Converter, model::Event};

    #[test]
    fn networks_are_parsed_and_others_skipped() {
        let object = json!({
            "metadata": { "name": "kubernetes" },
            "spec": { "cidrs": ["10.96.0.1/12", "nonsense", "fd00:96::/112"] },
        });
        let object: ServiceCIDR = serde_json::from_value(object).unwrap();
        let event = Converter::new("").service_cidr(&object);
        let Some(Event::ServiceCidr(name, Some(networks))) = event else {
            panic!("{event:?}")
        };
        assert_eq!(&*name.name, "kubernetes");
        let expected = ["10.96.0.0/12", "fd00:96::/112"].map(|n| n.parse::<IpNet>().unwrap());
        assert_eq!(*networks, expected);
    }
}
