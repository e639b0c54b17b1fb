//! What the kernel says of attachments, asked without our own code.

use std::{collections::BTreeMap, fs, path::Path};

use aya::programs::{
    SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::node::Node;

/// A pinned link: its id and that of its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkIds {
    pub(crate) link: u32,
    pub(crate) program: u32,
}

/// The links at devices, by the names of their pins.
pub(crate) fn device_links(pinned: &Path) -> BTreeMap<String, LinkIds> {
    let entries = fs::read_dir(pinned.join("links")).expect("pinned links");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("UTF-8"));
    let links = names.filter(|name| name.contains('@')).map(|name| {
        let path = pinned.join("links").join(&name);
        let link = FdLink::from(PinnedLink::from_pin(path).expect("a link"));
        (name, ids(&link))
    });
    links.collect()
}

fn ids(link: &FdLink) -> LinkIds {
    let info = link.info().expect("link info");
    LinkIds {
        link: info.id(),
        program: info.program_id(),
    }
}

/// Names of the TC programs at a device, in and out.
pub(crate) fn tcx(node: &Node, device: &str) -> [Vec<String>; 2] {
    let netns = fs::File::open(format!("/run/netns/{}", node.netns())).expect("a namespace");
    std::thread::scope(|scope| {
        let ask = || {
            setns(&netns, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            [TcAttachType::Ingress, TcAttachType::Egress].map(|direction| {
                let (_, programs) =
                    SchedClassifier::query_tcx(device, direction).expect("a kernel with TCX");
                let name = |info: &aya::programs::ProgramInfo| info.name_as_str().map(Into::into);
                programs.iter().filter_map(name).collect()
            })
        };
        scope.spawn(ask).join().expect("no panic")
    })
}

/// The mode of XDP at a device: 1 is native, 2 generic, `None` without a program.
pub(crate) fn xdp_mode(node: &Node, device: &str) -> Option<u64> {
    let links = node.ip(&format!("-j -d link show dev {device}"));
    let links: Value = serde_json::from_str(&links).expect("JSON");
    links[0]["xdp"]["mode"].as_u64()
}
