//! Objects as an API server holds them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::reference::{self, Expected};
use crate::{
    convert::Converter,
    model::{Event, Kind},
};

/// `metadata.name` of the node that the controller runs on.
pub(super) const NODE: &str = "node-1";

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Service,
    EndpointSlice,
    Node,
}

impl Of {
    pub(super) fn named(kind: &str) -> Self {
        match kind {
            "Service" => Self::Service,
            "EndpointSlice" => Self::EndpointSlice,
            "Node" => Self::Node,
            other => panic!("no kind of this test: {other}"),
        }
    }

    /// What a source says of an object; nothing where it is none of its business.
    pub(super) fn event(
        self,
        converter: &mut Converter,
        object: &Value,
        deleted: bool,
    ) -> Option<Event> {
        fn typed<T: for<'de> Deserialize<'de>>(object: &Value) -> T {
            serde_json::from_value(object.clone()).expect("an object of its kind")
        }
        let metadata = || typed(&object["metadata"]);
        match (self, deleted) {
            (Self::Service, false) => converter.service(&typed(object)),
            (Self::Service, true) => converter.service_deleted(&metadata()),
            (Self::EndpointSlice, false) => converter.endpoint_slice(&typed(object)),
            (Self::EndpointSlice, true) => converter.endpoint_slice_deleted(&metadata()),
            (Self::Node, false) => converter.node(&typed(object)),
            (Self::Node, true) => converter.node_deleted(&metadata()),
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    objects: BTreeMap<(Of, String), Value>,
}

impl Cluster {
    pub(super) fn put(&mut self, kind: Of, object: Value) {
        let name = reference::name_of(&object);
        self.objects.insert((kind, name), object);
    }

    /// The object that is gone, if it was there.
    pub(super) fn delete(&mut self, kind: Of, name: &str) -> Option<Value> {
        self.objects.remove(&(kind, name.to_owned()))
    }

    pub(super) fn of(&self, kind: Of) -> Vec<Value> {
        let all = self.objects.iter();
        all.filter(|((of, _), _)| *of == kind)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// What a client hears that lists everything.
    pub(super) fn list(&self, converter: &mut Converter) -> Vec<Event> {
        let mut events = Vec::new();
        for (of, kind) in [
            (Of::EndpointSlice, Kind::EndpointSlices),
            (Of::Service, Kind::Services),
        ] {
            events.push(Event::Listing(kind));
            let objects = self.of(of);
            events.extend(objects.iter().filter_map(|o| of.event(converter, o, false)));
            events.push(Event::Listed(kind));
        }
        let nodes = self.of(Of::Node);
        let mut heard = nodes
            .iter()
            .filter_map(|node| Of::Node.event(converter, node, false))
            .collect::<Vec<_>>();
        if heard.is_empty() {
            heard.push(Event::Node(crate::model::NodeInfo::default()));
        }
        events.extend(heard);
        events
    }

    /// What the rules promise.
    pub(super) fn expected(&self, external_ips: bool) -> Expected {
        let nodes = self.of(Of::Node);
        let this = nodes.iter().find(|node| node["metadata"]["name"] == NODE);
        let zone = this
            .and_then(|node| node["metadata"]["labels"]["topology.kubernetes.io/zone"].as_str());
        let node = reference::Node {
            name: NODE,
            zone: zone.unwrap_or(""),
            external_ips,
        };
        reference::expected(&self.of(Of::Service), &self.of(Of::EndpointSlice), node)
    }
}
