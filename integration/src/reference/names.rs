//! Names of chains, as kube-proxy makes them: a hash of the Service port, in base32.

use std::net::SocketAddr;

use ring::digest::{SHA256, digest};

use super::service::ServiceView;

/// The first `length` characters of a text's SHA-256 in base32.
fn hash(text: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = digest(&SHA256, text.as_bytes());
    let bit = |index: usize| {
        let byte = digest.as_ref().get(index / 8).copied().unwrap_or(0);
        usize::from(byte >> (7 - index % 8) & 1)
    };
    let character = |position: usize| {
        let value = (0..5).fold(0, |value, i| value << 1 | bit(position * 5 + i));
        char::from(ALPHABET[value])
    };
    (0..length).map(character).collect()
}

/// An iptables chain of a Service port: `prefix` is `SVC`, `SVL`, `EXT` or `FW`.
pub(super) fn chain(prefix: &str, service: &ServiceView<'_>) -> String {
    let text = format!("{}{}", service.id(), service.protocol());
    format!("KUBE-{prefix}-{}", hash(&text, 16))
}

/// The iptables chain of an endpoint of a Service port.
pub(super) fn endpoint_chain(service: &ServiceView<'_>, endpoint: SocketAddr) -> String {
    let text = format!("{}{}{endpoint}", service.id(), service.protocol());
    format!("KUBE-SEP-{}", hash(&text, 16))
}

/// The part of an nftables chain's name that stands for a Service port.
pub(super) fn base(service: &ServiceView<'_>) -> String {
    let key = &service.desired.key;
    let protocol = service.protocol();
    let text = format!(
        "{}/{}/{protocol}/{}",
        key.service.namespace, key.service.name, key.port_name
    );
    format!("{}-{text}", hash(&text, 8))
}

/// The same for an endpoint. Colons may not be in names.
pub(super) fn endpoint_base(service: &ServiceView<'_>, endpoint: SocketAddr) -> String {
    let key = &service.desired.key;
    let protocol = service.protocol();
    let address = endpoint.ip().to_string().replace(':', ".");
    let text = format!(
        "{}/{}/{protocol}/{}__{address}/{}",
        key.service.namespace,
        key.service.name,
        key.port_name,
        endpoint.port()
    );
    format!("{}-{text}", hash(&text, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha256_in_base32() {
        // `printf abc | sha256sum | xxd -r -p | base32` starts so.
        assert_eq!(hash("abc", 16), "XJ4BNP4PAHH6UQKB");
    }

    #[test]
    fn names_are_those_in_kube_proxys_own_tests() {
        assert_eq!(hash("ns1/svc1:p80tcp", 16), "XPGD46QRK7WJZT7O");
        assert_eq!(hash("ns1/svc1:p80tcp10.180.0.1:80", 16), "SXIVWICOYRO3J4NJ");
        assert_eq!(hash("ns1/svc1/tcp/p80", 8), "ULMVA6XW");
        assert_eq!(hash("ns1/svc1/tcp/p80__10.180.0.1/80", 8), "5OJB2KTY");
    }
}
