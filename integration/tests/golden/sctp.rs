//! SCTP Services are programmed, and that they exist makes the kernel learn no SCTP (rule M3).

use std::fs;

use lb_integration::{PodNetwork, patience::eventually};

use crate::stage::{Policies, Stage, service};

/// What a namespace of this kernel knows of protocols, and its modules.
fn protocols() -> (String, String) {
    let names = |text: String| {
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .filter(|name| name.to_lowercase().contains("sctp"))
            .collect();
        names.sort();
        names.join(" ")
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    (
        names(read("/proc/net/protocols")),
        names(read("/proc/modules")),
    )
}

#[test]
fn m3_sctp_services_are_served_without_the_kernels_sctp() {
    let stage = &mut Stage::new(PodNetwork::Routed, &[]);
    let here = |stage: &Stage| stage.cluster.node(0).netns().run(protocols).unwrap();
    let before = here(stage);
    let object = service(Policies::Cluster).port("sctp", 9, 9, "SCTP");
    stage.control_plane.apply(object.object()).unwrap();
    eventually("the Service's rows", || {
        let listed = stage.lbctl(&["list"]).to_lowercase().contains("sctp");
        listed.then_some(()).ok_or_else(|| stage.explain())
    });
    assert_eq!(here(stage), before);
}
