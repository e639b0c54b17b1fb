//! Whatever bytes the maps hold, `lbctl` answers and does not panic.

use clap::Parser;
use lb_controller::lbctl::{cli::Cli, describe, render, render::Style, report};
use lb_ebpf::abi::{
    BackendEntry, BackendStats, Config, Device, FrontendKey, LocalBackendKey, Name, ServiceEntry,
    ServiceInfo, ServiceStats, SourceRangeKey, Status,
};
use proptest::{collection::vec, prelude::*};
use zerocopy::FromBytes;

use crate::snapshot::{USUAL, cluster, facts};

/// Elements made of `bytes`, cycling through them.
pub(crate) fn elements<T: FromBytes>(bytes: &[u8], count: usize) -> Vec<T> {
    let mut source = bytes.iter().copied().cycle();
    (0..count)
        .map(|_| {
            let element: Vec<u8> = source.by_ref().take(size_of::<T>()).collect();
            T::read_from_bytes(&element).expect("as many bytes as the type has")
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_are_described(
        bytes in vec(any::<u8>(), 61..600),
        slab in vec(any::<u32>(), 0..50),
        small_ids in any::<bool>(),
    ) {
        let mut snapshot = cluster(USUAL);
        let mut frontends: Vec<(FrontendKey, ServiceEntry)> =
            elements(&bytes, 9).into_iter().zip(elements(&bytes, 9)).collect();
        let mut backends: Vec<BackendEntry> = elements(&bytes, 9);
        if small_ids {
            for (index, (_, entry)) in frontends.iter_mut().enumerate() {
                entry.service_id = index as u32;
            }
            for (index, backend) in backends.iter_mut().enumerate() {
                backend.service_id = index as u32;
            }
        }
        snapshot.frontends = frontends;
        snapshot.backends = backends;
        snapshot.infos = (0..).zip(elements::<ServiceInfo>(&bytes, 9)).collect();
        snapshot.service_stats = elements::<ServiceStats>(&bytes, 5);
        snapshot.backend_stats = elements::<BackendStats>(&bytes, 5);
        snapshot.zones = (0..).zip(elements::<Name>(&bytes, 3)).collect();
        snapshot.filter = elements(&bytes, 3);
        snapshot.node_ports = elements(&bytes, 3);
        snapshot.source_ranges = elements::<SourceRangeKey>(&bytes, 5);
        snapshot.local_backends = elements::<LocalBackendKey>(&bytes, 5).into_iter().zip(0..).collect();
        snapshot.slab = Box::new(slab);
        snapshot.config = elements::<Config>(&bytes, 1).remove(0);
        snapshot.devices = (2..).zip(elements::<Device>(&bytes, 7)).collect();
        snapshot.status = elements::<Status>(&bytes, 1).remove(0);

        for arguments in [
            "list", "list -o wide", "list --by-service -o wide", "list -o json", "backends -o wide",
            "dump --canonical", "dump --raw", "dump --raw --address 10.0.0.1",
        ] {
            let words = std::iter::once("lbctl").chain(arguments.split(' '));
            let cli = Cli::try_parse_from(words).expect("a valid command line");
            for style in [Style::Plain, Style::Colour] {
                let answer = report(&cli.command, cli.output, &snapshot, style);
                let text = answer.expect("an answer").text;
                let printable = |c: char| c == '\n' || c == '\u{1b}' || !c.is_control();
                prop_assert!(text.chars().all(printable), "{text:?}");
                let escaped = text.contains('\u{1b}');
                prop_assert!(style == Style::Colour || !escaped);
            }
        }
        let status = describe(&snapshot, &facts());
        prop_assert!(render::status(&status, Style::Plain).contains("CONNECTIONS"));
    }
}
