//! Swaps of all maps, and classic filters, on a datapath in this process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
};

use lb_controller::{
    conntrack::FlowSizes,
    datapath::{Datapath, Network, Place, cleanup},
    devices::{Inventory, Options, XdpMode, watch::Watcher},
    kernel::Features,
    loader::Cgroup,
    pins::Pins,
    plan::{NoRoom, Usage},
};
use nix::sched::{CloneFlags, setns};

use crate::node::Node;

/// Runs `work` on a thread in the node's network namespace.
fn inside<T: Send>(node: &Node, work: impl FnOnce() -> T + Send) -> T {
    let netns = File::open(format!("/run/netns/{}", node.netns())).expect("a namespace");
    let on_thread = || {
        setns(&netns, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
        work()
    };
    std::thread::scope(|scope| scope.spawn(on_thread).join().expect("no panic"))
}

/// What the node looks like; for threads inside.
fn look() -> Inventory {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let watcher = runtime.expect("a runtime").block_on(Watcher::start());
    watcher.expect("rtnetlink").1
}

fn place(node: &Node, tcx: bool) -> Place {
    let options = Options {
        xdp: XdpMode::Generic,
        ..Options::default()
    };
    Place {
        pins: Pins::new(&node.pins),
        cgroup: Cgroup::open(&node.cgroup).expect("our cgroup"),
        features: Features {
            tcx,
            ..Features::probe()
        },
        affinity_entries: 1024,
        flow_sizes: FlowSizes {
            conntrack: 1024,
            half_open: 1024,
            fragments: 64,
        },
        node_name: "swapped".into(),
        source: "files",
        network: Network::new(options, look()),
    }
}

fn create(node: &Node, tcx: bool) -> Datapath {
    let (mut datapath, _) =
        Datapath::create(place(node, tcx), Usage::default()).expect("a datapath");
    datapath.publish().expect("published");
    datapath
}

fn adopt(node: &Node, tcx: bool) -> Datapath {
    let adopted = Datapath::adopt(place(node, tcx)).expect("adoption");
    adopted.expect("something to adopt").0
}

/// Names of pins, without those at the cgroup.
fn pins(node: &Node) -> Vec<String> {
    let names = fs::read_dir(node.pinned().join("links")).expect("links");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("UTF-8"))
        .filter(|name| name.contains('@'))
        .collect();
    names.sort();
    names
}

/// Names and program ids of the classic filters at `eth0`.
fn filters(node: &Node) -> BTreeMap<String, String> {
    let mut filters = BTreeMap::new();
    for direction in ["ingress", "egress"] {
        let shown = node.output("tc", &format!("filter show dev eth0 {direction}"));
        for line in shown.lines().filter(|line| line.contains(" id ")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |key: &str| {
                let at = words.iter().position(|word| *word == key);
                at.and_then(|at| words.get(at + 1)).copied()
            };
            let name = words.iter().find(|word| word.starts_with("lb_"));
            if let (Some(name), Some(id)) = (name, after("id")) {
                filters.insert((*name).to_owned(), id.to_owned());
            }
        }
    }
    filters
}

mod netns {
    use super::*;
    use crate::kernel::{device_links, xdp_mode};

    #[test]
    fn links_at_devices_take_part_in_a_swap() {
        let node = Node::new();
        inside(&node, || {
            let mut datapath = create(&node, true);
            let before = device_links(&node.pinned());
            assert_eq!(before.len(), 3, "{before:?}");
            let no_room = NoRoom {
                needed: Usage {
                    services: 10_000,
                    ..Usage::default()
                },
                slab: false,
            };
            datapath.grow(Usage::default(), no_room).expect("grown");
            let after = device_links(&node.pinned());
            assert_eq!(before.len(), after.len());
            for (name, old) in &before {
                assert_eq!(after[name].link, old.link, "{name}: another link");
                assert_ne!(after[name].program, old.program, "{name}: the old program");
            }
            // Devices that appear get the new programs.
            node.veth("veth1");
            datapath.follow(look()).expect("followed");
            assert_eq!(device_links(&node.pinned()).len(), 5);
        });
    }

    #[test]
    fn nothing_is_attached_before_the_maps_are_published() {
        let node = Node::new();
        inside(&node, || {
            let created = Datapath::create(place(&node, true), Usage::default());
            let (mut datapath, _) = created.expect("a datapath");
            datapath.follow(look()).expect("followed");
            assert!(!node.pinned().join("links").exists());
            let devices = datapath.maps().devices.dump().expect("DEVICES");
            assert_eq!(devices.len(), 1, "the maps are filled");
            datapath.publish().expect("published");
            assert_eq!(pins(&node).len(), 3);
        });
    }

    #[test]
    fn classic_filters_serve_where_links_do_not_exist() {
        let node = Node::new();
        inside(&node, || {
            drop(create(&node, false));
            let wanted = [
                "lb_egress-clsact@2",
                "lb_ingress-clsact@2",
                "lb_xdp-generic@2",
            ];
            let eth0 = look()
                .links
                .iter()
                .find(|l| l.name == "eth0")
                .expect("eth0")
                .index;
            let wanted = wanted.map(|name| name.replace("@2", &format!("@{eth0}")));
            assert_eq!(pins(&node), wanted);
            let before = filters(&node);
            let names: Vec<_> = before.keys().cloned().collect();
            assert_eq!(
                names,
                ["lb_egress", "lb_ingress"],
                "they outlive the process"
            );

            // A new controller replaces them in place: there are never two.
            let mut datapath = adopt(&node, false);
            let after = filters(&node);
            assert_eq!(
                after.keys().collect::<Vec<_>>(),
                before.keys().collect::<Vec<_>>()
            );
            assert!(after.iter().all(|(name, id)| before[name] != *id));

            // Somebody removes them; the next look at the node puts them back.
            node.output("tc", "qdisc del dev eth0 clsact");
            assert_eq!(filters(&node).len(), 0);
            datapath.follow(look()).expect("followed");
            assert_eq!(filters(&node), after);

            // On a kernel that has links, links take their place.
            drop(adopt(&node, true));
            assert_eq!(filters(&node).len(), 0);
            assert_eq!(pins(&node)[0], format!("lb_egress-tcx@{eth0}"));
            drop(adopt(&node, false));
            assert_eq!(filters(&node).len(), 2);

            cleanup(&Pins::new(&node.pins)).expect("cleaned");
            assert_eq!(filters(&node).len(), 0);
            assert_eq!(xdp_mode(&node, "eth0"), None);
        });
    }
}
