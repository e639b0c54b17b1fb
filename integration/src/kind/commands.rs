//! The argument vectors of `kind`, `kubectl` and `docker`. Pure.

use std::path::Path;

use serde_json::Value;

use super::runner::Invocation;

/// Docker's network of all kind clusters.
pub const NETWORK: &str = "kind";

/// The `kubectl` context of a kind cluster.
pub fn context(cluster: &str) -> String {
    format!("kind-{cluster}")
}

fn kind<const N: usize>(arguments: [&str; N]) -> Invocation {
    Invocation::new("kind", arguments)
}

/// Creates a cluster from a configuration on standard input.
pub fn create(cluster: &str, config: String) -> Invocation {
    // Nodes become ready with the pod network, which needs no Services; DNS does, so no waiting.
    kind(["create", "cluster", "--name", cluster, "--config", "-"]).reading(config)
}

/// Deletes it.
pub fn delete(cluster: &str) -> Invocation {
    kind(["delete", "cluster", "--name", cluster])
}

/// Names of the clusters that exist, one a line.
pub fn clusters() -> Invocation {
    kind(["get", "clusters"])
}

/// Loads the images of an archive into its nodes.
pub fn load(cluster: &str, archive: &Path) -> Invocation {
    let archive = archive.display().to_string();
    kind(["load", "image-archive", &archive, "--name", cluster])
}

/// Its kubeconfig; `internal` is for containers on docker's network.
pub fn kubeconfig(cluster: &str, internal: bool) -> Invocation {
    let mut invocation = kind(["get", "kubeconfig", "--name", cluster]);
    if internal {
        invocation.arguments.push("--internal".to_owned());
    }
    invocation
}

/// `kubectl` on one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    context: String,
}

impl Kubectl {
    /// That of a kind cluster.
    pub fn new(cluster: &str) -> Self {
        Self {
            context: context(cluster),
        }
    }

    fn on(&self, arguments: &[&str]) -> Invocation {
        let context = ["--context", &self.context];
        Invocation::new("kubectl", context.iter().chain(arguments).copied())
    }

    /// Creates or replaces objects as they are given, whoever else has changed them.
    pub fn apply(&self, objects: &Value) -> Invocation {
        self.on(&["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .reading(objects.to_string())
    }

    /// Applies a kustomization.
    pub fn apply_kustomization(&self, directory: &Path) -> Invocation {
        let directory = directory.display().to_string();
        self.on(&["apply", "-k", &directory])
    }

    /// Waits until a DaemonSet's pods are ready.
    pub fn rollout(&self, namespace: &str, daemon_set: &str) -> Invocation {
        let what = format!("daemonset/{daemon_set}");
        let limit = "--timeout=5m";
        self.on(&["-n", namespace, "rollout", "status", &what, limit])
    }

    /// Merges a patch into an object, or into its status.
    pub fn patch(&self, at: &ObjectPath<'_>, status: bool, patch: &Value) -> Invocation {
        let patch = patch.to_string();
        let mut words = vec!["-n", at.namespace, "patch", at.kind, at.name];
        // Conditions are merged by type, which plain merging does not do.
        words.extend(["--type", "strategic", "-p", &patch]);
        if status {
            words.push("--subresource=status");
        }
        self.on(&words)
    }

    /// An object as JSON.
    pub fn get(&self, at: &ObjectPath<'_>) -> Invocation {
        self.on(&["-n", at.namespace, "get", at.kind, at.name, "-o", "json"])
    }

    /// All objects of a kind that have no namespace, as JSON.
    pub fn list(&self, kind: &str) -> Invocation {
        self.on(&["get", kind, "-o", "json"])
    }

    /// What people look at.
    pub fn show(&self, namespace: &str, kinds: &str) -> Invocation {
        self.on(&["-n", namespace, "get", kinds, "-o", "wide"])
    }

    /// Deletes an object and waits until it is gone; absent is fine.
    pub fn delete(&self, at: &ObjectPath<'_>) -> Invocation {
        let absent = "--ignore-not-found";
        self.on(&["-n", at.namespace, "delete", at.kind, at.name, absent])
    }

    /// Tells a pod to end within this time; does not wait.
    pub fn end_pod(&self, namespace: &str, name: &str, grace: u64) -> Invocation {
        let grace = format!("--grace-period={grace}");
        let mut words = vec!["-n", namespace, "delete", "pod", name, &grace];
        words.extend(["--wait=false", "--ignore-not-found"]);
        if grace == "--grace-period=0" {
            words.push("--force");
        }
        self.on(&words)
    }

    /// Waits until something is so of a pod: `delete`, `jsonpath=…`.
    pub fn wait(&self, namespace: &str, name: &str, until: &str, seconds: u64) -> Invocation {
        let (pod, limit) = (format!("pod/{name}"), format!("--timeout={seconds}s"));
        let until = format!("--for={until}");
        self.on(&["-n", namespace, "wait", &pod, &until, &limit])
    }

    /// Deletes a namespace; does not wait.
    pub fn delete_namespace(&self, namespace: &str) -> Invocation {
        let words = ["delete", "namespace", namespace, "--wait=false"];
        let mut invocation = self.on(&words);
        invocation.arguments.push("--ignore-not-found".to_owned());
        invocation
    }

    /// Deletes all pods with a label, and lets their controller make new ones.
    pub fn delete_labelled(&self, namespace: &str, label: &str) -> Invocation {
        self.on(&["-n", namespace, "delete", "pods", "-l", label])
    }

    /// Runs a program in a pod, with standard input.
    pub fn exec(&self, namespace: &str, name: &str, program: &[&str]) -> Invocation {
        let words = ["-n", namespace, "exec", "-i", name, "--"];
        self.on(&[&words, program].concat())
    }

    /// The last lines that pods with a label have logged.
    pub fn logs(&self, namespace: &str, label: &str, lines: u32) -> Invocation {
        let tail = format!("--tail={lines}");
        self.on(&["-n", namespace, "logs", "-l", label, "--prefix", &tail])
    }

    /// Copies a file out of a pod.
    pub fn copy_from(&self, namespace: &str, name: &str, path: &str, to: &Path) -> Invocation {
        let from = format!("{namespace}/{name}:{path}");
        let to = to.display().to_string();
        self.on(&["cp", &from, &to])
    }
}

/// Which object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectPath<'a> {
    /// `service`, `pod`.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Loads the images of an archive into docker.
pub fn docker_load(archive: &Path) -> Invocation {
    let archive = archive.display().to_string();
    Invocation::new("docker", ["load", "-i", archive.as_str()])
}

/// A container beside the nodes that runs a traffic server without ports: a place for clients.
pub fn outside(name: &str, image: &str) -> Invocation {
    let mut words = vec!["run", "--detach", "--rm", "--name", name];
    words.extend(["--network", NETWORK, image, "serve", "--name", name]);
    Invocation::new("docker", words)
}

/// Runs a program in a container, with standard input.
pub fn docker_exec(name: &str, program: &[&str]) -> Invocation {
    let words = ["exec", "-i", name];
    Invocation::new("docker", words.into_iter().chain(program.iter().copied()))
}

/// A container's addresses on kind's network, as JSON.
pub fn docker_addresses(name: &str) -> Invocation {
    let format = format!("{{{{json (index .NetworkSettings.Networks {NETWORK:?})}}}}");
    Invocation::new("docker", ["inspect", "--format", format.as_str(), name])
}

/// Removes a container.
pub fn docker_remove(name: &str) -> Invocation {
    Invocation::new("docker", ["rm", "--force", name])
}
