//! Devices that merge segments into packets of more than 64 KiB, whose IP header cannot state their
//! length (BIG TCP).

use std::time::Duration;

use futures::TryStreamExt;
use lb_integration::{client::tcp, netns::Netns};
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::LinkUnspec;

use crate::stage::{Profile, Stage, Xdp};

/// Bytes that devices merge.
const MERGED: u32 = 180_000;
/// Bytes that are sent there and back: enough for TCP to fill such packets.
const SENT: usize = 4 << 20;

/// Lets the devices of a namespace make and take long packets.
async fn widen() -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    let links: Vec<_> = handle.link().get().execute().try_collect().await?;
    for link in links {
        let long = LinkUnspec::new_with_index(link.header.index)
            .append_extra_attribute(LinkAttribute::GsoIpv4MaxSize(MERGED))
            .append_extra_attribute(LinkAttribute::GroIpv4MaxSize(MERGED))
            .append_extra_attribute(LinkAttribute::GsoMaxSize(MERGED))
            .append_extra_attribute(LinkAttribute::GroMaxSize(MERGED));
        handle.link().change(long.build()).execute().await?;
    }
    Ok(())
}

fn widen_in(netns: &Netns) {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(widen())
    };
    netns.run(work).unwrap().unwrap();
}

#[test]
fn packets_too_long_for_their_length_field_are_translated_both_ways() {
    let profile = Profile {
        xdp: Xdp::Off,
        ..Profile::default()
    };
    let mut stage = Stage::new(profile, &[]);
    let scenes: Vec<_> = [("near", 0), ("far", 1)]
        .map(|(name, node)| (name, stage.serving(node, name).1))
        .into();
    for node in stage.cluster.nodes() {
        widen_in(node.netns());
    }
    widen_in(stage.cluster.fabric());
    widen_in(&stage.outside.placement().netns);
    for (name, _) in &scenes {
        widen_in(&stage.pod(name).placement().netns);
    }
    let text = "x".repeat(SENT);
    for (_, frontends) in scenes {
        for (_, to) in stage.addresses(&frontends) {
            if to.is_ipv6() {
                // Linux 6.18 itself forwards hardly anything of it.
                continue;
            }
            let dial = tcp(to).request(format!("echo {text}"));
            let dial = dial.timeout(Duration::from_secs(20));
            let dialed = stage.user.dial(&dial);
            assert!(
                dialed.reply.as_ref() == Some(&text),
                "{to}: {:?}",
                dialed.error
            );
        }
    }
}
