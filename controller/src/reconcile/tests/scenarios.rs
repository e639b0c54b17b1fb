//! The scenarios in `tests/scenarios`: one test each.

use std::path::{Path, PathBuf};

use super::scenario::Scenario;

pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                Scenario::load(stringify!($name)).check();
            }
        )*

        #[test]
        fn every_file_is_a_test() {
            let files = std::fs::read_dir(directory()).expect("the directory of scenarios");
            for file in files {
                let path = file.expect("an entry").path();
                let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                assert!([$(stringify!($name)),*].contains(&name), "{name} is not in the list");
            }
        }
    };
}

scenarios! {
    affinity_change
    contested_address
    dsr_annotation
    dual_stack
    duplicate_endpoints
    external_ips_switch
    external_policy_without_outside
    external_traffic_policy
    graceful_termination
    headless_label
    hints_and_local_sets
    internal_traffic_policy
    malformed_objects
    many_services_grow_the_maps
    mirrored_and_foreign_slices
    named_ports
    neither_ready_nor_terminating
    node_hints
    node_ports_off
    one_number_two_protocols
    ports_that_swap
    proxy_name_label
    prune_deleted_on_restart
    relist_after_outage
    restart_in_the_same_state
    service_recreated
    shared_backends
    slice_deleted
    slice_rebalancing
    slices_before_their_service
    source_ranges
    table_length_pinned
    target_port_change
    terminating_fallback_of_each_set
    type_changes
    unnamed_port
    zone_hints_and_zone_change
}
