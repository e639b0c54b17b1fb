//! EndpointSlices.
#![forbid(unsafe_code)]

use std::sync::Arc;

use k8s_openapi::api::discovery::v1;

use super::{Interner, address, has_label, label_of, ports};
use crate::model::{Endpoint, EndpointSlice, Family, NodeHint, ObjectName, SlicePort};

/// Names the Service that a slice belongs to (rule B1).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Marks slices of headless Services (rule B2).
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// `None` if the slice belongs to no Service (rule B1), to a headless one (rule B2), or
/// holds host names (rule B4). `object` is the name of the slice.
pub(super) fn convert(
    object: &ObjectName,
    slice: &v1::EndpointSlice,
    node_name: &str,
    interner: &mut Interner,
) -> Option<EndpointSlice> {
    if has_label(&slice.metadata, HEADLESS_LABEL) {
        return None;
    }
    let service = label_of(&slice.metadata, SERVICE_NAME_LABEL).unwrap_or("");
    if service.is_empty() {
        tracing::warn!(%object, "skipping an EndpointSlice without label {SERVICE_NAME_LABEL}");
        return None;
    }
    let family = match &*slice.address_type {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return None,
        other => {
            tracing::warn!(%object, "skipping an EndpointSlice of unknown addressType {other:?}");
            return None;
        }
    };
    let mut slice_ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| convert_port(object, port, interner))
        .collect();
    slice_ports.shrink_to_fit();
    let endpoints = slice.endpoints.as_deref().unwrap_or(&[]);
    let mut converted = Vec::with_capacity(endpoints.len());
    converted.extend(
        endpoints
            .iter()
            .filter_map(|endpoint| convert_endpoint(object, endpoint, family, node_name, interner)),
    );
    converted.shrink_to_fit();
    Some(EndpointSlice {
        service: ObjectName {
            namespace: object.namespace.clone(),
            name: interner.intern(service),
        },
        family,
        ports: slice_ports,
        endpoints: converted,
    })
}

/// Rules B6 and B7. A null name differs from an empty one, which is a name.
fn convert_port(
    object: &ObjectName,
    port: &v1::EndpointPort,
    interner: &mut Interner,
) -> Option<SlicePort> {
    let Some(name) = port.name.as_deref() else {
        tracing::warn!(%object, "skipping a port without a name");
        return None;
    };
    let (name, protocol) = ports::name_and_protocol(Some(name), port.protocol.as_deref(), object)?;
    let value = port.port.unwrap_or(0);
    let number = ports::number(value);
    if number.is_none() && value != 0 {
        tracing::warn!(%object, name, port = value, "skipping a port out of range");
    }
    Some(SlicePort {
        name: interner.intern(name),
        protocol,
        port: number?,
    })
}

/// Rules B8, B9, B10, D1.
fn convert_endpoint(
    object: &ObjectName,
    endpoint: &v1::Endpoint,
    family: Family,
    node_name: &str,
    interner: &mut Interner,
) -> Option<Endpoint> {
    let text = endpoint.addresses.first()?;
    let addr = address::parse(text).filter(|addr| Family::of(*addr) == family);
    let Some(addr) = addr else {
        tracing::warn!(%object, text, "skipping an endpoint whose address is not of the slice's type");
        return None;
    };
    let conditions = endpoint.conditions.as_ref();
    let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
    Some(Endpoint {
        addr,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: !node_name.is_empty() && endpoint.node_name.as_deref() == Some(node_name),
        node_hint: node_hint(endpoint, node_name),
        zone: zone.map(|zone| interner.intern(zone)),
        zone_hints: zone_hints(endpoint, interner),
    })
}

fn node_hint(endpoint: &v1::Endpoint, node_name: &str) -> NodeHint {
    let nodes = endpoint
        .hints
        .as_ref()
        .and_then(|hints| hints.for_nodes.as_deref());
    match nodes {
        None | Some([]) => NodeHint::None,
        Some(nodes) if nodes.iter().any(|node| node.name == node_name) => NodeHint::This,
        Some(_) => NodeHint::Other,
    }
}

fn zone_hints(endpoint: &v1::Endpoint, interner: &mut Interner) -> Box<[Arc<str>]> {
    let zones = endpoint
        .hints
        .as_ref()
        .and_then(|hints| hints.for_zones.as_deref());
    zones
        .unwrap_or(&[])
        .iter()
        .map(|zone| interner.intern(&zone.name))
        .collect()
}
