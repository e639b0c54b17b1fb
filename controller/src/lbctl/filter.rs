//! Filters by namespace, name and address.

use std::net::IpAddr;

use clap::Args;
use lb_ebpf::abi::ServiceInfo;

/// What to keep. Kinds of filters must all match; values of one kind are alternatives.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Keep Services of this namespace.
    #[arg(short, long = "namespace", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// Keep Services of this name.
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Keep what has this IP address as frontend or backend, in any notation:
    /// 10.0.0.1, ::ffff:10.0.0.1, fd00::1, [fd00:0::1].
    #[arg(long = "address", value_name = "IP", value_parser = address)]
    pub addresses: Vec<IpAddr>,
}

impl Filter {
    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.names.is_empty() && self.addresses.is_empty()
    }

    /// Whether namespace and name match.
    pub(super) fn admits_service(&self, info: &ServiceInfo) -> bool {
        let admits = |wanted: &[String], is: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == is)
        };
        admits(&self.namespaces, info.namespace.as_str()) && admits(&self.names, info.name.as_str())
    }

    /// Whether one of `addresses` matches; they must be canonical (no v4-mapped IPv6).
    pub(super) fn admits_any(&self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        self.addresses.is_empty()
            || addresses
                .into_iter()
                .any(|address| self.addresses.contains(&address))
    }
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map(|ip: IpAddr| ip.to_canonical())
        .map_err(|_| "expected an IP address without port, such as 10.96.0.10 or fd00::1".into())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn notations_of_one_address_are_equal() {
        let v4 = address("10.96.0.10").unwrap();
        assert_eq!(address("::ffff:10.96.0.10"), Ok(v4));
        assert_eq!(address("::ffff:a60:a"), Ok(v4));
        let v6 = address("fd00::1").unwrap();
        assert_eq!(address("[fd00:0:0::0001]"), Ok(v6));
        assert!(address("10.96.0.10:80").is_err());
    }
}
