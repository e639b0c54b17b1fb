//! The race test: two Services are rewritten as fast as the reconciler can, on the real
//! kernel, while clients connect to both.
//!
//! What must hold at every instant: no connection reaches the other Service's backend;
//! none goes untranslated or is refused while its Service exists and has endpoints.
//! Tables, slots, ids and hash elements change their owners all the time, Services are
//! deleted and made again, and the maps grow twice.

mod clients;
#[path = "../support/sandbox.rs"]
mod sandbox;
mod servers;
mod writer;

/// Needs root; `cargo xtask test --no-netns` leaves out what has this in its path.
mod netns {
    use std::time::Duration;

    use crate::{
        clients::{Clients, Figures},
        sandbox::Sandbox,
        servers,
        writer::Writer,
    };

    /// `LB_RACES_SECONDS` makes it longer.
    fn duration() -> Duration {
        let asked = std::env::var("LB_RACES_SECONDS").ok();
        let asked = asked.and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(asked.unwrap_or(6))
    }

    /// When to give up on a machine that is too busy.
    const LIMIT: Duration = Duration::from_secs(90);

    /// Connections and flows that the clients must have made for the test to count.
    const ENOUGH: u64 = 20_000;

    #[test]
    fn connects_never_reach_another_service_while_everything_changes() {
        let sandbox = Sandbox::new("races");
        servers::start();
        sandbox.enter();
        let mut writer = Writer::new(sandbox.place());
        let clients = Clients::start(writer.gates());
        let written = writer.run(duration(), LIMIT);
        let figures = clients.stop();
        println!("writer: {written:?}\nclients: {figures:?}");
        let Figures {
            answered,
            excused,
            violations,
        } = figures;
        assert!(
            violations.is_empty(),
            "{} violations, among them: {:#?}",
            violations.len(),
            &violations[..violations.len().min(10)]
        );
        assert!(answered + excused >= ENOUGH, "only {answered} connections");
        assert!(answered > excused, "the Services were hardly ever there");
        assert!(written.is_enough(), "only {written:?}");
    }
}
