//! Made-up clusters of any size, the same in every run, for benchmarks and tests.
//!
//! Input: numbers of Services and of endpoints for each. Output: the cluster as events,
//! as a source would send them, or as the objects that lead to these events.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use serde_json::{Value, json};

use crate::{
    convert::Interner,
    model::{
        Endpoint, EndpointSlice, Event, Family, Kind, NodeHint, NodeInfo, ObjectName, Protocol,
        Service, ServicePort, ServiceType, SlicePort, Standing, TrafficPolicy,
    },
};

/// Name of the node on which the first endpoint, and every 1,000th after it, runs.
pub const NODE: &str = "node-0";

const NODES: usize = 1000;
const NAMESPACES: usize = 100;
const ZONES: usize = 3;
/// As the EndpointSlice controller fills them.
const ENDPOINTS_PER_SLICE: usize = 100;

/// The cluster as a source would send it: both lists, then complete.
pub fn events(services: usize, endpoints: usize) -> impl Iterator<Item = Event> {
    let mut interner = Interner::default();
    let kinds = [Kind::Services, Kind::EndpointSlices];
    let node = Event::Node(NodeInfo {
        zone: Some(zone(0).into()),
        standing: Standing::Staying,
        ..NodeInfo::default()
    });
    let objects = (0..services).flat_map(move |service| {
        let record = Event::Service(
            name(service, &mut interner),
            Some(service_record(service, &mut interner)),
        );
        let mut events = vec![record];
        events.extend(slices(service, endpoints).map(|slice| slice_event(&slice, &mut interner)));
        events
    });
    let begin = kinds.map(Event::Listing).into_iter().chain([node]);
    begin.chain(objects).chain(kinds.map(Event::Listed))
}

/// The same cluster as Kubernetes objects, with everything that the API server and the
/// controllers add to them.
pub fn objects(services: usize, endpoints: usize) -> impl Iterator<Item = Value> {
    let objects = (0..services).flat_map(move |service| {
        let slices = slices(service, endpoints).map(|slice| slice_object(&slice));
        std::iter::once(service_object(service)).chain(slices)
    });
    std::iter::once(node_object()).chain(objects)
}

/// The same cluster as `kubectl get -o json` prints it: one `List`.
pub fn objects_json(services: usize, endpoints: usize, mut to: impl io::Write) -> io::Result<()> {
    to.write_all(b"{\"apiVersion\": \"v1\", \"items\": [")?;
    for (position, object) in objects(services, endpoints).enumerate() {
        to.write_all(if position == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer_pretty(&mut to, &object)?;
    }
    to.write_all(b"\n], \"kind\": \"List\", \"metadata\": {\"resourceVersion\": \"\"}}\n")
}

/// A slice of a Service: which of all endpoints of the cluster are in it.
struct Slice {
    service: usize,
    part: usize,
    endpoints: std::ops::Range<usize>,
}

fn slices(service: usize, endpoints: usize) -> impl Iterator<Item = Slice> {
    (0..endpoints)
        .step_by(ENDPOINTS_PER_SLICE)
        .enumerate()
        .map(move |(part, start)| {
            let end = endpoints.min(start + ENDPOINTS_PER_SLICE);
            let endpoints = service * endpoints + start..service * endpoints + end;
            Slice {
                service,
                part,
                endpoints,
            }
        })
}

fn slice_event(slice: &Slice, interner: &mut Interner) -> Event {
    let service = name(slice.service, interner);
    let own = ObjectName {
        namespace: service.namespace.clone(),
        name: slice_name(slice).into(),
    };
    let endpoints = slice.endpoints.clone().map(|number| Endpoint {
        addr: endpoint_ip(number),
        ready: true,
        serving: true,
        terminating: false,
        local: number.is_multiple_of(NODES),
        node_hint: NodeHint::None,
        zone: Some(interner.intern(&zone(number))),
        zone_hints: Box::default(),
    });
    let record = EndpointSlice {
        service,
        family: Family::V4,
        endpoints: endpoints.collect(),
        ports: vec![SlicePort {
            name: interner.intern("http"),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
    };
    Event::EndpointSlice(own, Some(record))
}

fn service_record(service: usize, interner: &mut Interner) -> Service {
    Service {
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![cluster_ip(service)],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: Box::default(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_secs: None,
        pinned_len: None,
        forwarding: None,
        health_check_node_port: 0,
        ports: vec![ServicePort {
            name: interner.intern("http"),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
        }],
    }
}

fn node_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": zone(0)}},
    })
}

fn service_object(service: usize) -> Value {
    let app = format!("svc-{service}");
    let ip = cluster_ip(service);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": app},
            "name": app,
            "namespace": namespace(service),
            "resourceVersion": (1_000_000 + service).to_string(),
            "uid": uid(service),
        },
        "spec": {
            "clusterIP": ip,
            "clusterIPs": [ip],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": app},
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice_object(slice: &Slice) -> Value {
    let app = format!("svc-{}", slice.service);
    let endpoints = slice.endpoints.clone().map(|number| {
        json!({
            "addresses": [endpoint_ip(number)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", number % NODES),
            "targetRef": {
                "kind": "Pod",
                "name": format!("{app}-{number:x}"),
                "namespace": namespace(slice.service),
                "uid": uid(number),
            },
            "zone": zone(number),
        })
    });
    json!({
        "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "kind": "EndpointSlice",
        "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generateName": format!("{app}-"),
            "generation": 3,
            "labels": {
                "app": app,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": app,
            },
            "name": slice_name(slice),
            "namespace": namespace(slice.service),
            "ownerReferences": [{
                "apiVersion": "v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Service",
                "name": app,
                "uid": uid(slice.service),
            }],
            "resourceVersion": (2_000_000 + slice.service).to_string(),
            "uid": uid(slice.service),
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn name(service: usize, interner: &mut Interner) -> ObjectName {
    ObjectName {
        namespace: interner.intern(&namespace(service)),
        name: interner.intern(&format!("svc-{service}")),
    }
}

fn slice_name(slice: &Slice) -> String {
    format!("svc-{}-{}", slice.service, slice.part)
}

fn namespace(service: usize) -> String {
    format!("ns-{}", service % NAMESPACES)
}

fn zone(endpoint: usize) -> String {
    format!("zone-{}", endpoint % ZONES)
}

fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// From 10.0.0.0/9.
fn cluster_ip(service: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + service as u32).into()
}

/// From 10.128.0.0/9.
fn endpoint_ip(endpoint: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a80_0001 + endpoint as u32).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{convert::Converter, store::Store};

    #[test]
    fn objects_lead_to_the_events() {
        let mut converter = Converter::new(NODE);
        let found = objects(3, 150).map(|object| match object["kind"].as_str() {
            Some("Service") => converter.service(&serde_json::from_value(object).unwrap()),
            Some("EndpointSlice") => {
                converter.endpoint_slice(&serde_json::from_value(object).unwrap())
            }
            _ => converter.node(&serde_json::from_value(object).unwrap()),
        });
        let found: Vec<_> = found.map(Option::unwrap).collect();
        let is_object = |event: &Event| !matches!(event, Event::Listing(_) | Event::Listed(_));
        assert_eq!(found, events(3, 150).filter(is_object).collect::<Vec<_>>());
    }

    #[test]
    fn sizes_are_as_asked_for() {
        let mut store = Store::new();
        events(20, 250).for_each(|event| store.apply(event));
        assert!(store.synced());
        assert_eq!(store.services().len(), 20);
        let slices = store.services().flat_map(|(name, _)| store.slices_of(name));
        let endpoints: Vec<_> = slices.map(|slice| slice.endpoints.len()).collect();
        assert_eq!(endpoints.len(), 60);
        assert_eq!(endpoints.iter().sum::<usize>(), 5000);
    }
}
