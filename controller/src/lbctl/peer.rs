//! Arguments that name something: an address with or without port, a Service, a port.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use lb_ebpf::abi::ServiceInfo;

/// `IP` or `IP:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    ip: IpAddr,
    port: Option<u16>,
}

impl Peer {
    /// Whether `address` is meant; without a port, all of its ports are.
    pub(super) fn is(self, address: SocketAddr) -> bool {
        self.ip == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                ip: address.ip().to_canonical(),
                port: Some(address.port()),
            });
        }
        super::filter::address(text)
            .map(|ip| Self { ip, port: None })
            .map_err(|_| {
                "expected an IP address with or without port, such as 10.0.0.1, 10.0.0.1:80 or \
                 [fd00::1]:80"
                    .into()
            })
    }
}

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    namespace: String,
    name: String,
}

impl ServiceName {
    /// Whether this Service is meant.
    pub(super) fn is_of(&self, info: &ServiceInfo) -> bool {
        self.namespace == info.namespace.as_str() && self.name == info.name.as_str()
    }
}

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.into(),
                name: name.into(),
            }),
            _ => Err("expected NAMESPACE/NAME, such as shop/web"),
        }
    }
}

/// `NAMESPACE/NAME` or `NAMESPACE/NAME:PORT`, the port by number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortName {
    service: ServiceName,
    port: Option<String>,
}

impl ServicePortName {
    /// Whether this service port is meant.
    pub(super) fn is_of(&self, info: &ServiceInfo) -> bool {
        let port = |wanted: &String| {
            *wanted == info.port.get().to_string() || wanted == info.port_name.as_str()
        };
        self.service.is_of(info) && self.port.as_ref().is_none_or(port)
    }
}

impl FromStr for ServicePortName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (service, port) = match text.split_once(':') {
            Some((_, "")) => return Err("expected a port, by number or name, after the colon"),
            Some((service, port)) => (service, Some(port.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            service: service.parse()?,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_port_is_all_of_its_ports() {
        let peer = |text: &str| text.parse::<Peer>().unwrap();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(peer("10.0.0.1").is(address("10.0.0.1:80")));
        assert!(peer("::ffff:10.0.0.1").is(address("10.0.0.1:80")));
        assert!(!peer("10.0.0.1:81").is(address("10.0.0.1:80")));
        assert!(peer("[fd00::1]:80").is(address("[fd00::1]:80")));
        assert!("web".parse::<Peer>().is_err());
    }

    #[test]
    fn services_are_named_with_their_namespace() {
        assert!("shop/web".parse::<ServiceName>().is_ok());
        assert!("web".parse::<ServiceName>().is_err());
        assert!("shop/web:80".parse::<ServicePortName>().is_ok());
        assert!("shop/web:http".parse::<ServicePortName>().is_ok());
        assert!("shop/web:".parse::<ServicePortName>().is_err());
    }
}
