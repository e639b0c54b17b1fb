//! What proves a flow, and what does not.

use std::net::SocketAddr;

use lb_ebpf::{
    abi::{ConntrackEntry, ConntrackState, Lifetime, PacketEvent, Protocol},
    parse::tcp::{ACK, FIN, RST, SYN},
    tables::FlowState,
};

use super::super::{
    flow::tuple,
    packet::Packet,
    script::{BOTH, Case, Hook, Row, Script, Step, TRANSPORTS},
    topology::{GATEWAY, Port},
    world::{CONNTRACK_CAPACITY, LIFETIMES},
};

/// A flow to a local backend that was opened and answered, in the tick before this one.
fn answered(case: Case) -> Script {
    let packet = case.opening(case.client(), case.vip());
    let answer = case.answering(case.backend(1), case.client());
    Script::new(case.balanced(1))
        .step(
            Step::new(case.hook, &packet)
                .passes_as(&packet.clone().between(case.client(), case.backend(1)))
                .counts(PacketEvent::Opened)
                .flows(&[case.to_local()]),
        )
        .step(
            Step::new(Hook::Egress, &answer)
                .passes_as(&answer.clone().between(case.vip(), case.client()))
                .flows(&[case.to_local().answered()]),
        )
}

/// A packet of the client that goes to the local backend.
fn goes_on(case: Case, packet: &Packet) -> Step {
    let becomes = packet.clone().between(case.client(), case.backend(1));
    Step::new(case.hook, packet).passes_as(&becomes)
}

/// [`answered`], with no room among the proven flows.
fn without_room(case: Case) -> Script {
    let mut script = answered(case);
    let proven = script.world.flows.table_mut(FlowState::Proven);
    for port in 0..CONNTRACK_CAPACITY as u16 {
        let other = SocketAddr::new(case.stranger().ip(), port);
        let key = tuple(case.protocol, other, case.vip());
        proven.insert(key, ConntrackEntry::EMPTY.sealed(&key));
    }
    for step in &mut script.steps {
        step.flows = None;
    }
    script
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a client that goes on after the answer proves its flow",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let proof = case.proving(case.client(), case.vip());
            answered(case).step(
                goes_on(case, &proof)
                    .counts(PacketEvent::Established)
                    .flows(&[case.to_local().proven()]),
            )
        },
    },
    Row {
        name: "a flow to a remote backend is proven alike",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let proof = case.proving(case.client(), case.vip());
            let becomes = proof.clone().between(case.snat(), case.backend(2)).hop();
            let opening = case.opening(case.client(), case.vip());
            let opened = opening.clone().between(case.snat(), case.backend(2)).hop();
            let answer = case.answering(case.backend(2), case.snat());
            let reply = answer.clone().between(case.vip(), case.client()).hop();
            let flow = case.to_remote(2);
            Script::new(case.balanced(2))
                .step(
                    Step::new(case.hook, &opening)
                        .leaves(Port::Second, 2, &opened)
                        .counts(PacketEvent::Opened),
                )
                .step(Step::new(case.hook, &answer).at(Port::Second).leaves(
                    Port::Uplink,
                    GATEWAY,
                    &reply,
                ))
                .step(
                    Step::new(case.hook, &proof)
                        .leaves(Port::Second, 2, &becomes)
                        .counts(PacketEvent::Established)
                        .flows(&[flow.proven()]),
                )
                .step(
                    Step::new(case.hook, &proof)
                        .leaves(Port::Second, 2, &becomes)
                        .flows(&[flow.proven()]),
                )
        },
    },
    Row {
        name: "data of the backend may be acknowledged at once",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let data =
                Packet::tcp(case.backend(1), case.client(), ACK, 5001, 1001).payload(&[1; 100]);
            let proof = Packet::tcp(case.client(), case.vip(), ACK, 1001, 5101);
            answered(case)
                .step(
                    Step::new(Hook::Egress, &data)
                        .passes_as(&data.clone().between(case.vip(), case.client())),
                )
                .step(
                    goes_on(case, &proof)
                        .counts(PacketEvent::Established)
                        .flows(&[case.to_local().proven()]),
                )
        },
    },
    Row {
        name: "an acknowledgement of anything that was sent proves, also of less than all",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let back = |seq, payload: &[u8]| {
                let packet = Packet::tcp(case.backend(1), case.client(), ACK, seq, 1001);
                let packet = packet.payload(payload);
                let reply = packet.clone().between(case.vip(), case.client());
                Step::new(Hook::Egress, &packet).passes_as(&reply)
            };
            let proof = |ack| {
                let packet = Packet::tcp(case.client(), case.vip(), ACK, 1001, ack);
                goes_on(case, &packet)
                    .counts(PacketEvent::Established)
                    .flows(&[case.to_local().proven()])
            };
            let beyond = Packet::tcp(case.client(), case.vip(), ACK, 1001, 5102);
            // What came first is sent again.
            answered(case)
                .step(back(5001, &[1; 100]))
                .step(back(5001, &[]))
                .step(goes_on(case, &beyond).flows(&[case.to_local().answered()]))
                .step(proof(case.family.pick(5101, 5001)))
        },
    },
    Row {
        name: "data before the answer is none",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let opening = case.opening(case.client(), case.vip());
            let data = Packet::tcp(case.backend(1), case.client(), ACK, 5001, 1001);
            let data = data.payload(&[1; 100]);
            Script::new(case.balanced(1))
                .step(goes_on(case, &opening).counts(PacketEvent::Opened))
                .step(
                    Step::new(Hook::Egress, &data)
                        .passes_as(&data.clone().between(case.vip(), case.client()))
                        .flows(&[case.to_local()]),
                )
        },
    },
    Row {
        name: "a RST of the backend is nothing to acknowledge",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let reset = Packet::tcp(case.backend(1), case.client(), RST, 6000, 1001);
            let blind = Packet::tcp(case.client(), case.vip(), ACK, 1001, 5500);
            let flow = case.to_local().answered().and(0, ConntrackState::RST);
            answered(case)
                .step(
                    Step::new(Hook::Egress, &reset)
                        .passes_as(&reset.clone().between(case.vip(), case.client())),
                )
                .step(goes_on(case, &blind).flows(&[flow]))
        },
    },
    Row {
        name: "an acknowledgement of what was not sent proves nothing",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flows = [case.to_local().answered()];
            let mut script = answered(case);
            for ack in [0, 5000, 5002, 6000, 0x8000_1389] {
                let blind = Packet::tcp(case.client(), case.vip(), ACK, 1001, ack);
                script = script.step(goes_on(case, &blind).flows(&flows));
            }
            script
        },
    },
    Row {
        name: "a blind acknowledgement before the answer proves nothing",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let opening = case.opening(case.client(), case.vip());
            let mut script = Script::new(case.balanced(1))
                .step(goes_on(case, &opening).counts(PacketEvent::Opened));
            for ack in [0, 1, 5001] {
                let blind = Packet::tcp(case.client(), case.vip(), ACK, 1001, ack);
                script = script.step(goes_on(case, &blind).flows(&[case.to_local()]));
            }
            script
        },
    },
    Row {
        name: "SYN and RST prove nothing, whatever they acknowledge",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().answered();
            let syn = Packet::tcp(case.client(), case.vip(), SYN | ACK, 1001, 5001);
            let reset = Packet::tcp(case.client(), case.vip(), RST | ACK, 1001, 5001);
            answered(case)
                .step(goes_on(case, &syn).flows(&[flow]))
                .step(goes_on(case, &reset).flows(&[flow.and(ConntrackState::RST, 0)]))
        },
    },
    Row {
        name: "an answer alone proves nothing, nor do packets before it",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Udp],
        script: |case| {
            let again = case.opening(case.client(), case.vip());
            let answer = case.answering(case.backend(1), case.client());
            let reply = answer.clone().between(case.vip(), case.client());
            Script::new(case.balanced(1))
                .step(goes_on(case, &again).counts(PacketEvent::Opened))
                .step(goes_on(case, &again).flows(&[case.to_local()]))
                .step(
                    Step::new(Hook::Egress, &answer)
                        .passes_as(&reply)
                        .flows(&[case.to_local().answered()]),
                )
                .step(
                    Step::new(Hook::Egress, &answer)
                        .passes_as(&reply)
                        .flows(&[case.to_local().answered()]),
                )
        },
    },
    Row {
        name: "an association is proven after COOKIE-ACK, not after INIT-ACK",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Sctp],
        script: |case| {
            let chunk =
                |kind, src, dst| Packet::new(src, dst, super::super::packet::Body::Sctp(kind));
            let init = chunk(1, case.client(), case.vip());
            let init_ack = chunk(2, case.backend(1), case.client());
            let cookie = chunk(10, case.client(), case.vip());
            let cookie_ack = chunk(11, case.backend(1), case.client());
            let data = chunk(0, case.client(), case.vip()).payload(&[3; 21]);
            let reply = |packet: &Packet| {
                let becomes = packet.clone().between(case.vip(), case.client());
                Step::new(Hook::Egress, packet).passes_as(&becomes)
            };
            Script::new(case.balanced(1))
                .step(goes_on(case, &init).counts(PacketEvent::Opened))
                .step(reply(&init_ack).flows(&[case.to_local()]))
                .step(goes_on(case, &cookie).flows(&[case.to_local()]))
                .step(reply(&cookie_ack).flows(&[case.to_local().answered()]))
                .step(
                    goes_on(case, &data)
                        .counts(PacketEvent::Established)
                        .flows(&[case.to_local().proven()]),
                )
        },
    },
    Row {
        name: "a proven flow stays half-open when there is no room, and goes on",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let script = without_room(case);
            let proof = case.proving(case.client(), case.vip());
            script
                .step(goes_on(case, &proof).counts(PacketEvent::ConntrackFull))
                .step(goes_on(case, &proof).counts(PacketEvent::ConntrackFull))
        },
    },
    Row {
        name: "a flow that stays half-open expires as one",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let script = without_room(case);
            let proof = case.proving(case.client(), case.vip());
            // Its state is written with the FIN.
            let fin = Packet::tcp(case.client(), case.vip(), FIN | ACK, 1001, 5001);
            script
                .step(goes_on(case, &fin).counts(PacketEvent::ConntrackFull))
                .step(
                    Step::new(case.hook, &proof)
                        .after(LIFETIMES[Lifetime::CloseWait as usize] + 1)
                        .counts(PacketEvent::MidStream),
                )
        },
    },
    Row {
        name: "replies of a local backend are changed where they leave, not where they enter",
        hooks: &[Hook::Xdp, Hook::Ingress, Hook::PodIngress],
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let answer = case.answering(case.backend(1), case.client());
            let reply = answer.clone().between(case.vip(), case.client());
            let flow = case.to_local();
            let script = Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(Step::new(case.hook, &answer).flows(&[flow]));
            [Hook::Egress, Hook::PodEgress]
                .iter()
                .fold(script, |script, hook| {
                    script.step(
                        Step::new(*hook, &answer)
                            .passes_as(&reply)
                            .flows(&[flow.answered()]),
                    )
                })
        },
    },
    Row {
        name: "an established flow is one rewrite",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: TRANSPORTS,
        script: |case| {
            let data = case.proving(case.client(), case.vip()).payload(&[5; 999]);
            let flow = case.to_local().proven();
            Script::new(case.balanced(1).flow(&flow, 0, 0))
                .step(goes_on(case, &data).flows(&[flow]))
                .step(goes_on(case, &data).after(1).flows(&[flow]))
        },
    },
    Row {
        name: "FIN and RST of a half-open flow are remembered",
        hooks: &Hook::FROM_OUTSIDE,
        families: BOTH,
        protocols: &[Protocol::Tcp],
        script: |case| {
            let flow = case.to_local().answered();
            let fin = Packet::tcp(case.backend(1), case.client(), FIN | ACK, 5001, 1001);
            answered(case).step(
                Step::new(Hook::Egress, &fin)
                    .passes_as(&fin.clone().between(case.vip(), case.client()))
                    .flows(&[flow.and(0, ConntrackState::FIN)]),
            )
        },
    },
];
