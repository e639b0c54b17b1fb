//! Step 4: traffic of every kind.

use std::{net::SocketAddr, process::Command, slice, time::Duration};

use anyhow::{Context, Result};

use super::spread::live;
use crate::{
    agent::{dial::Dial, socket::ErrorKind},
    demo::{
        machine::installed,
        scene::Scene,
        screen::{Screen, counted, time},
        traffic::{bars, burst},
    },
};

/// The pods of web and cart.
pub(super) const WEB: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];
const DNS: [&str; 2] = ["dns-1", "dns-2"];

pub(in crate::demo) fn traffic(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    screen.step(
        "Live traffic through the Services",
        "client-1 and client-2 dial; connect() picks a pod, packets then go there untouched.",
    );
    screen.note(
        "Untranslated: the client sees another peer than the Service's address, or no way there.",
    );
    for vip in scene.manifests.vips("web")? {
        let title = format!("web, TCP, {vip}");
        live(
            screen,
            &title,
            &mut scene.clients,
            (&[Dial::tcp(vip)], 500),
            &WEB,
        )?;
    }
    for vip in scene.manifests.vips("dns")? {
        let dials = [Dial::udp(vip), Dial::udp_unconnected(vip)];
        let title = format!("dns, UDP, {vip}, by connect + send and by sendto");
        live(screen, &title, &mut scene.clients, (&dials, 250), &DNS)?;
    }
    beside_direct(screen, scene)?;
    by_curl(screen, scene)?;
    affinity(screen, scene)?;
    headless(screen, scene)?;
    without_endpoints(screen, scene)
}

/// The cost of the Service: requests to it and to its pods by turns.
fn beside_direct(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    let vip = scene.manifests.vips("web")?[0];
    let mut dials = Vec::new();
    for pod in WEB {
        dials.push(Dial::tcp(vip));
        dials.push(Dial::tcp((scene.pod(pod)?.v4(), 8080).into()));
    }
    let samples = burst(&mut scene.clients, &dials, 125)?;
    let through = samples.only(|sample| sample.to == vip);
    let direct = samples.only(|sample| sample.to != vip);
    screen.check(
        samples.failed() == 0,
        format!(
            "the price: median {} through the Service, {} straight to the pods, by turns",
            time(through.median()),
            time(direct.median()),
        ),
    );
    Ok(())
}

/// The same with a program everybody knows, where it is installed.
fn by_curl(screen: &mut Screen, scene: &Scene) -> Result<()> {
    let client = scene.pod("client-1")?;
    if !installed("curl") {
        screen.note("curl is not installed; with it you would see it fetch web's page here");
        return Ok(());
    }
    for vip in scene.manifests.vips("web")? {
        let url = format!("http://{}/hostname", without_default_port(vip));
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--globoff",
            "--max-time",
            "5",
            "--noproxy",
            "*",
            &url,
        ]);
        screen.command(format!("curl {url}"));
        let output = client.output(curl, Duration::from_secs(10))?;
        let answer = output.stdout.trim();
        screen.check(WEB.contains(&answer), answer);
    }
    Ok(())
}

/// As people write it: no `:80` behind an address in a URL.
fn without_default_port(vip: SocketAddr) -> String {
    let text = vip.to_string();
    text.strip_suffix(":80").map_or(text.clone(), str::to_owned)
}

/// Each client stays with one pod.
fn affinity(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    let vip = scene.manifests.vips("cart")?[0];
    screen.line(format!("cart, TCP, {vip}, sessionAffinity: ClientIP"));
    let mut held = true;
    let mut chart = Vec::new();
    for client in &mut scene.clients {
        let samples = burst(slice::from_mut(client), &[Dial::tcp(vip)], 300)?;
        held &= samples.failed() == 0 && samples.replies().len() == 1;
        for mut bar in bars(&samples.replies(), &[]) {
            bar.label = format!("{} → {}", client.name, bar.label);
            chart.push(bar);
        }
    }
    screen.bars(&chart);
    screen.check(held, "all connections of a client reached the same pod");
    Ok(())
}

/// Pods of a headless Service are dialled themselves.
fn headless(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    let endpoints = scene.manifests.endpoints("db");
    let dials: Vec<Dial> = endpoints
        .iter()
        .map(|endpoint| Dial::tcp((endpoint.address, 5432).into()))
        .collect();
    let samples = burst(&mut scene.clients, &dials, 10)?;
    let right = samples.0.iter().all(|sample| {
        let named = endpoints.iter().find(|e| e.address == sample.to.ip());
        sample.dialed.reply.as_deref() == named.map(|e| e.pod.as_str())
    });
    screen.check(
        right && samples.len() == endpoints.len() * scene.clients.len() * 10,
        format!(
            "db is headless: nothing is programmed, its pods answer at their own addresses ({})",
            counted(samples.len(), "request")
        ),
    );
    Ok(())
}

/// Refusal comes from connect() itself.
fn without_endpoints(screen: &mut Screen, scene: &mut Scene) -> Result<()> {
    let dials: Vec<Dial> = scene
        .manifests
        .vips("soon")?
        .into_iter()
        .map(Dial::tcp)
        .collect();
    let samples = burst(&mut scene.clients, &dials, 50)?;
    let first = samples.0.first().context("no request was made")?;
    let failure = first.dialed.error.as_ref();
    let message = failure.map_or("no error", |failure| failure.message.as_str());
    let refused = |kind: Option<ErrorKind>| kind == Some(ErrorKind::Refused);
    let all = samples
        .0
        .iter()
        .all(|sample| refused(sample.dialed.error.as_ref().map(|failure| failure.kind)));
    screen.check(
        all,
        format!(
            "soon has no endpoints: \"{message}\" after {} (median of {})",
            time(samples.median()),
            counted(samples.len(), "attempt")
        ),
    );
    Ok(())
}
