//! ICMP errors about flows: both directions, from the ends and from routers between.

use std::net::IpAddr;

use lb_ebpf::abi::Protocol;

use super::super::{
    packet::{Body, Packet},
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{Family, GATEWAY, Net, Port},
};

/// "Needs 1280 bytes".
fn too_big(case: Case, from: IpAddr, to: IpAddr, quoted: &[u8]) -> Packet {
    Packet::error(from, case.family.pick((3, 4), (2, 0)), 1280, to, quoted)
}

/// The start of a packet as an error quotes it: header and eight bytes.
fn quote(packet: &Packet) -> Vec<u8> {
    packet.ip()[..header(packet) + 8].to_vec()
}

fn header(packet: &Packet) -> usize {
    if packet.src.is_ipv4() { 20 } else { 40 }
}

/// The same start of another packet, with the transport checksum of `sent`: nobody looks at
/// it, so it stays as it is.
fn quote_like(packet: &Packet, sent: &Packet) -> Vec<u8> {
    let (mut bytes, sent) = (quote(packet), quote(sent));
    if packet.protocol() == Protocol::Udp as u8 {
        let at = header(packet) + 6;
        bytes[at..].copy_from_slice(&sent[at..]);
    }
    bytes
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "what embeds a packet and is no error is left alone",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_local().proven();
            let quoted = quote(&case.answering(case.vip(), case.client()));
            let to = case.vip().ip();
            let error = too_big(case, case.router(), to, &quoted);
            // An echo; an error in pieces; ICMP of the other family.
            let echo = case.family.pick((8, 0), (128, 0));
            let echo = Packet::error(case.router(), echo, 0, to, &quoted);
            let len = (error.ip().len() - header(&error)) as u16;
            let piece = error.clone().piece(7, 0, len, true);
            let number = case.family.pick(58, 1);
            let icmp = |kind: (u8, u8)| {
                let error = Packet::error(case.router(), kind, 1280, to, &quoted);
                let body = error.ip()[header(&error)..].to_vec();
                Packet::new(error.src, error.dst, Body::Raw(number)).payload(&body)
            };
            let others = [echo, piece, icmp((3, 4)), icmp((2, 0))];
            let script = Script::new(case.balanced(1).flow(&flow, 0, 3));
            others.iter().fold(script, |script, packet| {
                script.step(Step::new(case.hook, packet).flows(&[flow]))
            })
        },
    },
    Row {
        name: "an error of a router on the way to a remote backend reaches the client",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2).proven();
            let sent = case.proving(case.snat(), case.backend(2)).hops(60);
            let seen = sent.clone().between(case.client(), case.vip());
            let router = Net::Pods(2).host(case.family, 200);
            let error = too_big(case, router, case.snat().ip(), &quote(&sent));
            let told = too_big(
                case,
                case.vip().ip(),
                case.client().ip(),
                &quote_like(&seen, &sent),
            );
            // The flow's own state is none of an error's business.
            Script::new(case.balanced(2).flow(&flow, 0, 3)).step(
                Step::new(case.hook, &error)
                    .at(Port::Second)
                    .leaves(Port::Uplink, GATEWAY, &told.hop())
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "an error of a router on the way to the client reaches the remote backend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_remote(2).proven();
            let sent = case.answering(case.vip(), case.client()).hops(60);
            let seen = sent.clone().between(case.backend(2), case.snat());
            let error = too_big(case, case.router(), case.vip().ip(), &quote(&sent));
            let told = too_big(
                case,
                case.snat().ip(),
                case.backend(2).ip(),
                &quote_like(&seen, &sent),
            );
            Script::new(case.balanced(2).flow(&flow, 0, 3)).step(
                Step::new(case.hook, &error)
                    .leaves(Port::Second, 2, &told.hop())
                    .flows(&[flow]),
            )
        },
    },
    Row {
        name: "an error of a router on the way to the client reaches the local backend",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_local().proven();
            let sent = case.answering(case.vip(), case.client()).hops(60);
            let seen = sent.clone().between(case.backend(1), case.client());
            let error = too_big(case, case.router(), case.vip().ip(), &quote(&sent));
            let told = too_big(
                case,
                case.router(),
                case.backend(1).ip(),
                &quote_like(&seen, &sent),
            );
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(Step::new(case.hook, &error).passes_as(&told).flows(&[flow]))
        },
    },
    Row {
        name: "an error of the local backend comes from the frontend",
        hooks: &[Hook::Egress, Hook::PodEgress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let flow = case.to_local();
            let sent = case.opening(case.client(), case.backend(1)).hops(60);
            let seen = sent.clone().between(case.client(), case.vip());
            let kind = case.family.pick((3, 3), (1, 4));
            let client = case.client().ip();
            let error = Packet::error(case.backend(1).ip(), kind, 0, client, &quote(&sent));
            let told = Packet::error(case.vip().ip(), kind, 0, client, &quote_like(&seen, &sent));
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(Step::new(case.hook, &error).passes_as(&told).flows(&[flow]))
        },
    },
    Row {
        name: "a longer quotation is as good",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_remote(2).proven();
            let sent = case
                .proving(case.snat(), case.backend(2))
                .payload(&[4; 301]);
            let seen = sent.clone().between(case.client(), case.vip());
            let mut quoted = seen.ip();
            // The embedded checksum stays as it was.
            let at = header(&sent) + 16;
            quoted[at..at + 2].copy_from_slice(&sent.ip()[at..at + 2]);
            let router = Net::Pods(2).host(case.family, 200);
            let error = too_big(case, router, case.snat().ip(), &sent.ip());
            let told = too_big(case, case.vip().ip(), case.client().ip(), &quoted);
            Script::new(case.balanced(2).flow(&flow, 0, 3)).step(
                Step::new(case.hook, &error).at(Port::Second).leaves(
                    Port::Uplink,
                    GATEWAY,
                    &told.hop(),
                ),
            )
        },
    },
    Row {
        name: "errors about nobody's packets go on unchanged",
        hooks: &Hook::ALL,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let sent = case.answering(case.vip(), case.client());
            let error = too_big(case, case.router(), case.vip().ip(), &quote(&sent));
            Script::new(case.balanced(1)).step(Step::new(case.hook, &error).flows(&[]))
        },
    },
    Row {
        name: "an error does not keep a flow, nor does it open one",
        hooks: &[Hook::Ingress],
        families: &[Family::V4],
        protocols: &[Protocol::Udp],
        script: |case| {
            let flow = case.to_local().proven();
            let sent = case.answering(case.vip(), case.client());
            let seen = sent.clone().between(case.backend(1), case.client());
            let error = too_big(case, case.router(), case.vip().ip(), &quote(&sent));
            let to = case.backend(1).ip();
            let told = too_big(case, case.router(), to, &quote_like(&seen, &sent));
            let late = Step::new(case.hook, &error).after(100).passes_as(&told);
            let packet = case.opening(case.client(), case.vip());
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(late)
                .step(
                    Step::new(case.hook, &packet)
                        .after(100)
                        .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                        .counts(lb_ebpf::abi::PacketEvent::Opened)
                        .flows(&[case.to_local()]),
                )
        },
    },
];
