//! Rules for one Service of each kind (`testdata/reference/services.yaml`): the whole texts, and
//! what matters in them. `LB_BLESS=1` writes the texts anew; read the difference.

use std::{fs, path::PathBuf};

use lb_controller::desired::DesiredService;

use super::{
    LocalDetector, Mode, NodeFacts, lacks, render,
    runner::{Origin, snapshot},
};

fn testdata(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("testdata/reference").join(name)
}

fn kinds(detector: &str) -> (Vec<DesiredService>, NodeFacts) {
    let origin = Origin {
        files: Some(testdata("services.yaml")),
        kubeconfig: None,
        node_name: "node-1".to_owned(),
    };
    let facts = NodeFacts {
        local: detector.parse().unwrap(),
        localhost_node_ports: true,
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        ..NodeFacts::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(snapshot(&origin, facts)).unwrap();
    runtime.shutdown_background();
    result
}

fn rules(mode: Mode) -> String {
    let (services, facts) = kinds("cidr:10.244.0.0/16,fd00:244::/32");
    render(mode, &services, &facts)
}

/// Services of this name.
fn only(name: &str) -> (Vec<DesiredService>, NodeFacts) {
    let (mut services, facts) = kinds("cidr:10.244.0.0/16,fd00:244::/32");
    services.retain(|service| &*service.key.service.name == name);
    (services, facts)
}

fn is_as_recorded(mode: Mode, file: &str) {
    let text = rules(mode);
    if std::env::var_os("LB_BLESS").is_some() {
        fs::write(testdata(file), &text).unwrap();
    }
    let recorded = fs::read_to_string(testdata(file)).unwrap();
    let line = recorded.lines().zip(text.lines()).find(|(a, b)| a != b);
    assert!(recorded == text, "{file} differs, first in {line:?}");
}

/// The rules of a chain.
fn chain<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("-A {name} ");
    text.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

#[test]
fn iptables_rules_are_as_recorded() {
    is_as_recorded(Mode::Iptables, "services.iptables");
}

#[test]
fn nftables_rules_are_as_recorded() {
    is_as_recorded(Mode::Nftables, "services.nft");
}

#[test]
fn rendering_twice_gives_one_text() {
    for mode in [Mode::Iptables, Mode::Nftables] {
        assert_eq!(rules(mode), rules(mode));
    }
}

#[test]
fn without_services_nothing_is_chosen_and_the_fixed_chains_are_there() {
    let facts = NodeFacts::default();
    let text = render(Mode::Iptables, &[], &facts);
    assert!(text.contains(":KUBE-SERVICES") && !text.contains("DNAT"));
    let text = render(Mode::Nftables, &[], &facts);
    assert!(text.contains("service-ips") && !text.contains("add element"));
}

#[test]
fn c11_c12_no_endpoint_is_refused_and_none_of_the_policy_dropped() {
    let text = rules(Mode::Iptables);
    let services = chain(&text, "KUBE-SERVICES");
    assert!(services.contains(&"-d 10.96.0.2 -p udp -m udp --dport 53 -j DROP"));
    assert!(services.contains(&"-d 10.96.0.6 -p tcp -m tcp --dport 80 -j REJECT"));
    let outside = chain(&text, "KUBE-EXTERNAL-SERVICES");
    for ip in ["192.0.2.6", "198.51.100.6"] {
        let refused = format!("-d {ip} -p tcp -m tcp --dport 80 -j REJECT");
        assert!(outside.contains(&refused.as_str()), "{ip}: {outside:?}");
    }
    assert!(outside.contains(&"-d 192.0.2.5 -p tcp -m tcp --dport 80 -j DROP"));
    let text = rules(Mode::Nftables);
    assert!(text.contains("10.96.0.2 . udp . 53 : drop"));
    assert!(text.contains("10.96.0.6 . tcp . 80 : goto reject-chain"));
    assert!(
        text.contains("tcp . 30005 : drop") && text.contains("tcp . 30006 : goto reject-chain")
    );
}

#[test]
fn f1_f2_with_policy_local_pods_and_this_host_meet_the_cluster_set() {
    let (services, facts) = only("remote");
    let text = render(Mode::Iptables, &services, &facts);
    let external: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("-A KUBE-EXT-"))
        .collect();
    assert_eq!(external.len(), 3, "{external:?}");
    assert!(external[0].contains("-s 10.244.0.0/16 -j KUBE-SVC-"));
    assert!(external[1].ends_with("--src-type LOCAL -j KUBE-MARK-MASQ"));
    assert!(external[2].contains("--src-type LOCAL -j KUBE-SVC-"));
}

#[test]
fn f4_without_detector_pods_are_strangers_and_nobody_is_masqueraded_at_cluster_ips() {
    let (services, facts) = kinds("none");
    assert_eq!(facts.local, LocalDetector::None);
    let text = render(Mode::Iptables, &services, &facts);
    assert!(!text.contains("10.244.0.0/16"));
    let text = render(Mode::Nftables, &services, &facts);
    assert!(!text.contains("10.244.0.0/16"));
}

#[test]
fn f9_pods_may_be_told_by_their_device() {
    for (detector, iptables, nft) in [
        (
            "interface-prefix:veth",
            "! -i veth+ ",
            "iifname != \"veth*\"",
        ),
        ("bridge:cbr0", "! -i cbr0 ", "iifname != \"cbr0\""),
    ] {
        let (services, facts) = kinds(detector);
        assert!(render(Mode::Iptables, &services, &facts).contains(iptables));
        assert!(render(Mode::Nftables, &services, &facts).contains(nft));
    }
}

#[test]
fn e26_e29_e31_source_ranges_guard_the_vip_alone() {
    let text = rules(Mode::Iptables);
    let dropped = chain(&text, "KUBE-PROXY-FIREWALL");
    // Without endpoints iptables refuses everyone instead.
    assert_eq!(dropped, ["-d 192.0.2.4 -p tcp -m tcp --dport 80 -j DROP"]);
    let admitted = text.lines().filter(|line| line.starts_with("-A KUBE-FW-"));
    // The VIP itself, because this node is within a range.
    assert!(
        admitted
            .clone()
            .any(|line| line.contains("-s 192.0.2.4/32 "))
    );
    assert_eq!(admitted.count(), 3);
    let text = rules(Mode::Nftables);
    assert!(text.contains("192.0.2.4 . tcp . 80 : goto firewall-"));
    assert!(text.contains("192.0.2.6 . tcp . 80 : goto firewall-"));
    assert!(!text.contains("30004 : goto firewall-"));
}

#[test]
fn h1_affinity_is_asked_before_chance() {
    let (services, facts) = only("sticky");
    let text = render(Mode::Iptables, &services, &facts);
    let chosen: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("-A KUBE-SVC-"))
        .collect();
    let remembered = chosen
        .iter()
        .rposition(|line| line.contains("--rcheck --seconds 30"));
    let random = chosen.iter().position(|line| line.contains("statistic"));
    // The second family's chain has one endpoint and no chance.
    assert_eq!(
        (remembered.is_some(), random),
        (true, Some(3)),
        "{chosen:?}"
    );
    assert_eq!(text.matches("--set").count(), 3);
    let text = render(Mode::Nftables, &services, &facts);
    assert_eq!(text.matches("timeout 30s").count(), 3);
}

#[test]
fn g2_hairpins_are_masqueraded() {
    let text = rules(Mode::Iptables);
    assert!(text.contains("-s 10.244.1.2 -j KUBE-MARK-MASQ"));
    let text = rules(Mode::Nftables);
    assert!(text.contains("10.244.1.2 . 10.244.1.2 . tcp . 8080,"));
    assert!(
        !text.contains("10.244.2.2 . 10.244.2.2"),
        "it is on another node"
    );
}

#[test]
fn e3_e10_e11_node_ports_and_cluster_ips_of_the_two_modes() {
    let iptables = rules(Mode::Iptables);
    assert!(!iptables.contains("10.96.0.0/16"));
    assert!(iptables.contains("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"));
    let nft = rules(Mode::Nftables);
    assert!(nft.contains("ip daddr @cluster-ips reject"));
    assert!(nft.contains("ip daddr 10.96.0.0/16 drop"));
    assert!(nft.contains("ip daddr @nodeport-ips meta l4proto . th dport vmap"));
}

#[test]
fn what_is_lacking_is_named_as_rules_are_and_once() {
    for mode in [Mode::Iptables, Mode::Nftables] {
        let mut names: Vec<&str> = lacks::lacks(mode).iter().map(|(rule, _)| *rule).collect();
        for name in &names {
            let number = name.trim_start_matches(|c: char| c.is_ascii_uppercase());
            assert!(
                number.len() + 1 == name.len() && number.parse::<u8>().is_ok(),
                "{name}"
            );
        }
        names.dedup();
        assert_eq!(names.len(), lacks::lacks(mode).len());
    }
}
