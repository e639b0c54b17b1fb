//! Step 9: nothing is left, or everything is.

use std::{fs, path::Path};

use anyhow::Result;

use crate::{
    bpffs, cgroup,
    demo::{keep as kept, scene::Scene, screen::Screen},
    netns,
    prefix::Prefix,
    teardown,
};

pub(in crate::demo) fn clean_up(screen: &mut Screen, scene: Scene, prefix: &Prefix) {
    screen.step(
        "Clean-up",
        "Processes, namespaces, cgroups and pins of this run, and nothing else.",
    );
    drop(scene);
    let left = traces(prefix);
    if left.is_empty() {
        screen.check(true, "nothing is left behind");
    } else {
        screen.check(false, format!("left behind: {}", left.join(", ")));
    }
}

pub(in crate::demo) fn keep(screen: &mut Screen, scene: Scene) -> Result<()> {
    screen.step(
        "It stays up",
        "Every pod is a script that runs a command in that pod; look inside, they are short.",
    );
    let guide = kept::guide(&scene)?;
    scene.keep()?;
    for line in guide.lines() {
        screen.line(line);
    }
    Ok(())
}

/// What exists of a cluster outside its own namespaces.
fn traces(prefix: &Prefix) -> Vec<String> {
    let mut places = vec![Path::new(bpffs::MOUNT_POINT).join(prefix.as_str())];
    places.extend(cgroup::mount_point().map(|mount| mount.join(prefix.as_str())));
    places.push(teardown::working_directory(prefix));
    let mut left: Vec<String> = places
        .iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    let namespaces = fs::read_dir(netns::DIRECTORY)
        .into_iter()
        .flatten()
        .flatten();
    left.extend(
        namespaces
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| Prefix::of(name).as_ref() == Some(prefix)),
    );
    left
}
