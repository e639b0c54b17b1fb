//! The scenarios in `tests/scenarios`: one test each.

use std::path::{Path, PathBuf};

use super::scenario::Scenario;

pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

macro_rules! scenarios {
    ($(#[test] fn $name:ident();)*) => {
        $(
            #[test]
            fn $name() {
                Scenario::load(stringify!($name)).check();
            }
        )*

        /// All of them.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

        #[test]
        fn every_file_is_a_test() {
            let files = std::fs::read_dir(directory()).expect("the directory of scenarios");
            for file in files {
                let path = file.expect("an entry").path();
                let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                assert!(NAMES.contains(&name), "{name} is not in the list");
            }
        }
    };
}

scenarios! {
    #[test] fn affinity_change();
    #[test] fn contested_address();
    #[test] fn dsr_annotation();
    #[test] fn dual_stack();
    #[test] fn duplicate_endpoints();
    #[test] fn external_ips_switch();
    #[test] fn external_policy_without_outside();
    #[test] fn external_traffic_policy();
    #[test] fn graceful_termination();
    #[test] fn headless_label();
    #[test] fn hints_and_local_sets();
    #[test] fn internal_traffic_policy();
    #[test] fn malformed_objects();
    #[test] fn many_services_grow_the_maps();
    #[test] fn mirrored_and_foreign_slices();
    #[test] fn named_ports();
    #[test] fn neither_ready_nor_terminating();
    #[test] fn node_hints();
    #[test] fn node_ports_off();
    #[test] fn one_number_two_protocols();
    #[test] fn ports_that_swap();
    #[test] fn proxy_name_label();
    #[test] fn prune_deleted_on_restart();
    #[test] fn relist_after_outage();
    #[test] fn restart_in_the_same_state();
    #[test] fn service_recreated();
    #[test] fn shared_backends();
    #[test] fn slice_deleted();
    #[test] fn slice_rebalancing();
    #[test] fn slices_before_their_service();
    #[test] fn source_ranges();
    #[test] fn table_length_pinned();
    #[test] fn target_port_change();
    #[test] fn terminating_fallback_of_each_set();
    #[test] fn type_changes();
    #[test] fn unnamed_port();
    #[test] fn zone_hints_and_zone_change();
}
