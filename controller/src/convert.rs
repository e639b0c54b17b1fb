//! Kubernetes objects → model records.
//!
//! Input: objects as the API or a manifest gives them. Output: compact records, or
//! nothing where the proxy has nothing to do. The functions are total: whatever is in
//! an object, they skip what cannot be used, say so in the log, and never fail.
#![forbid(unsafe_code)]

mod address;
mod annotations;
mod endpoint_slice;
mod intern;
mod node;
mod ports;
mod service;
mod service_cidr;
mod source_ranges;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1, discovery::v1 as discovery, networking::v1::ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub use annotations::{FORWARDING_MODE, TABLE_LENGTH};
pub use endpoint_slice::{HEADLESS_LABEL, SERVICE_NAME_LABEL};
pub use intern::Interner;
pub use service::PROXY_NAME_LABEL;

use crate::{
    datapath::now_unix_ns,
    model::{Event, IpNet, NodeInfo, ObjectName},
};

/// Converts objects for one node, sharing strings between records.
#[derive(Debug)]
pub struct Converter {
    node_name: Arc<str>,
    /// Nanoseconds since the Unix epoch.
    started_at: u64,
    interner: Interner,
}

impl Converter {
    /// `node_name` is this node's (rule L1); empty means that no endpoint is local.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            started_at: now_unix_ns(),
            interner: Interner::default(),
        }
    }

    /// A Service that was listed, added or changed; `None` if it has no name.
    pub fn service(&mut self, object: &v1::Service) -> Option<Event> {
        let name = self.name(&object.metadata)?;
        let record = service::convert(&name, object, &mut self.interner);
        Some(Event::Service(name, record))
    }

    /// An EndpointSlice that was listed, added or changed; `None` if it has no name.
    pub fn endpoint_slice(&mut self, object: &discovery::EndpointSlice) -> Option<Event> {
        let name = self.name(&object.metadata)?;
        let record = endpoint_slice::convert(&name, object, &self.node_name, &mut self.interner);
        Some(Event::EndpointSlice(name, record))
    }

    /// When the change began that the next event of this EndpointSlice tells of (rule J21).
    /// What happened before this process started says nothing about it.
    pub fn trigger(&mut self, object: &discovery::EndpointSlice) -> Option<Event> {
        let at = annotations::last_change_trigger(&object.metadata)?;
        let name = (at > self.started_at).then(|| self.name(&object.metadata))?;
        Some(Event::Triggered(name?, at))
    }

    /// A Node; `None` if it is not this one.
    pub fn node(&mut self, object: &v1::Node) -> Option<Event> {
        let this = object.metadata.name.as_deref() == Some(&*self.node_name);
        this.then(|| Event::Node(node::convert(object, &mut self.interner)))
    }

    /// A Service that was deleted.
    pub fn service_deleted(&mut self, metadata: &ObjectMeta) -> Option<Event> {
        Some(Event::Service(self.name(metadata)?, None))
    }

    /// An EndpointSlice that was deleted.
    pub fn endpoint_slice_deleted(&mut self, metadata: &ObjectMeta) -> Option<Event> {
        Some(Event::EndpointSlice(self.name(metadata)?, None))
    }

    /// A ServiceCIDR that was listed, added or changed; `None` if it has no name.
    pub fn service_cidr(&mut self, object: &ServiceCIDR) -> Option<Event> {
        let name = self.name(&object.metadata)?;
        let networks = service_cidr::convert(&name.name, object);
        Some(Event::ServiceCidr(name, Some(networks)))
    }

    /// A ServiceCIDR that was deleted.
    pub fn service_cidr_deleted(&mut self, metadata: &ObjectMeta) -> Option<Event> {
        Some(Event::ServiceCidr(self.name(metadata)?, None))
    }

    /// A Node that was deleted.
    pub fn node_deleted(&mut self, metadata: &ObjectMeta) -> Option<Event> {
        let this = metadata.name.as_deref() == Some(&*self.node_name);
        this.then(|| Event::Node(NodeInfo::default()))
    }

    /// A manifest may leave the namespace out; kubectl's default is then meant.
    fn name(&mut self, metadata: &ObjectMeta) -> Option<ObjectName> {
        let name = metadata.name.as_deref().filter(|name| !name.is_empty());
        let Some(name) = name else {
            tracing::warn!("skipping an object without a name");
            return None;
        };
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        Some(ObjectName {
            namespace: self.interner.intern(namespace),
            name: self.interner.intern(name),
        })
    }
}

/// The networks of a list; what is none is skipped with a log.
fn networks(kind: &'static str, name: &str, listed: &[String]) -> Box<[IpNet]> {
    let parse = |text: &String| {
        let parsed = text.trim().parse::<IpNet>();
        if parsed.is_err() {
            tracing::warn!(kind, name, network = text, "skipping what is no network");
        }
        parsed.ok().map(|network| network.trunc())
    };
    listed.iter().filter_map(parse).collect()
}

/// Whether the object carries the label, whatever its value.
fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    label_of(metadata, label).is_some()
}

fn label_of<'a>(metadata: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(label).map(String::as_str)
}
