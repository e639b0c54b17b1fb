//! One guest: boots in software emulation, says what it has to say on its serial console, and
//! powers itself off, or is killed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::console::Report;
use crate::exec;
use crate::ui;
use crate::workspace::Workspace;

/// Boots `image` with `root` as its first root, for at most `limit`. The console is kept in
/// `log`. A guest that fails or hangs has said what it has said.
pub(super) fn boot(
    workspace: &Workspace,
    (image, root): (&Path, &Path),
    arguments: &str,
    log: &Path,
    limit: Duration,
) -> Result<(Report, Duration)> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulation everywhere, so that the matrix says the same on machines without nested
    // virtualisation.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", "2G", "-nographic", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(root)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 {arguments}"));
    let label = format!("guest, console in {}", workspace.show(log));
    let started = std::time::Instant::now();
    if let Err(error) = exec::logged(&mut qemu, &label, log, limit) {
        ui::warn(format!("{error:#}"));
    }
    let console = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Ok((Report::parse(&console), started.elapsed()))
}
