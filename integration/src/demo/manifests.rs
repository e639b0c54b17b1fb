//! The objects of the demo: YAML files of the repository, copied so that steps can edit them.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// A directory of manifests that controllers watch.
#[derive(Debug)]
pub(super) struct Manifests {
    directory: PathBuf,
    /// By file name, in order.
    files: BTreeMap<String, Vec<Value>>,
}

/// An endpoint as an EndpointSlice names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The name of the pod.
    pub(super) pod: String,
    /// The node it is on.
    pub(super) node: String,
    /// Its address in the slice's family.
    pub(super) address: IpAddr,
}

// === impl Manifests ===

impl Manifests {
    /// Copies the manifests in `from` into the empty directory `to`, as they are.
    pub(super) fn copy(from: &Path, to: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let entries = fs::read_dir(from)
            .with_context(|| format!("reading manifests in {}", from.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let objects = parse(&text).with_context(|| format!("in {}", path.display()))?;
            fs::write(to.join(&*name), text)?;
            files.insert(name.into_owned(), objects);
        }
        ensure!(!files.is_empty(), "no manifests in {}", from.display());
        Ok(Self {
            directory: to.to_owned(),
            files,
        })
    }

    /// The directory that controllers watch.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All objects, with the names of their files.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.files
            .iter()
            .flat_map(|(name, objects)| objects.iter().map(move |o| (name.as_str(), o)))
    }

    /// All objects of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.objects().filter(move |(_, o)| o["kind"] == kind)
    }

    /// Where clients of a Service connect to: its cluster IPs with its first port, IPv4 first.
    pub(super) fn vips(&self, service: &str) -> Result<Vec<SocketAddr>> {
        let object = self.service(service)?;
        let port = number(&object["spec"]["ports"][0]["port"])?;
        let ips = cluster_ips(object);
        Ok(ips.into_iter().map(|ip| (ip, port).into()).collect())
    }

    /// Where a load balancer would let clients outside connect to, IPv4 first.
    pub(super) fn load_balancers(&self, service: &str) -> Result<Vec<SocketAddr>> {
        let object = self.service(service)?;
        let port = number(&object["spec"]["ports"][0]["port"])?;
        let ips = ingress_ips(object);
        Ok(ips.into_iter().map(|ip| (ip, port).into()).collect())
    }

    /// The NodePort of a Service's first port.
    pub(super) fn node_port(&self, service: &str) -> Result<u16> {
        number(&self.service(service)?["spec"]["ports"][0]["nodePort"])
    }

    /// The addresses of all load balancers.
    pub(super) fn load_balancer_ips(&self) -> Vec<IpAddr> {
        self.of_kind("Service")
            .flat_map(|(_, object)| ingress_ips(object))
            .collect()
    }

    fn service(&self, name: &str) -> Result<&Value> {
        let mut services = self.of_kind("Service").map(|(_, object)| object);
        services
            .find(|object| object["metadata"]["name"] == name)
            .with_context(|| format!("no Service {name} in the manifests"))
    }

    /// How many entries the Services need in the map of addresses.
    pub(super) fn frontends(&self) -> usize {
        self.of_kind("Service")
            .map(|(_, object)| frontends(object))
            .sum()
    }

    /// The endpoints of a Service, of all families.
    pub(super) fn endpoints(&self, service: &str) -> Vec<Endpoint> {
        self.of_kind("EndpointSlice")
            .filter(|(_, o)| o["metadata"]["labels"]["kubernetes.io/service-name"] == service)
            .flat_map(|(_, o)| o["endpoints"].as_array().into_iter().flatten())
            .filter_map(endpoint)
            .collect()
    }

    /// Says in every EndpointSlice whether a pod is ready, as the endpoint controller does when
    /// its probe changes. Files are replaced at once, by renaming; comments stay.
    pub(super) fn set_ready(&self, pod: &str, ready: bool) -> Result<()> {
        let mut changed = 0;
        for name in self.files.keys() {
            let path = self.directory.join(name);
            let text = fs::read_to_string(&path)?;
            let edited = with_readiness(&text, pod, ready);
            if edited == text {
                continue;
            }
            parse(&edited).with_context(|| format!("editing {}", path.display()))?;
            // Hidden files are no manifests: nobody reads this one half-written.
            let staged = self.directory.join(format!(".{name}.new"));
            fs::write(&staged, edited)?;
            fs::rename(&staged, &path)?;
            changed += 1;
        }
        if changed == 0 {
            bail!("no EndpointSlice has pod {pod} with another readiness");
        }
        Ok(())
    }
}

/// The cluster IPs of a Service; none, if it is headless.
pub(super) fn cluster_ips(service: &Value) -> Vec<IpAddr> {
    let listed = service["spec"]["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten();
    listed.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

/// The addresses that a load balancer was given for a Service.
pub(super) fn ingress_ips(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let ingress = ingress.into_iter().flatten();
    ingress
        .filter_map(|one| one["ip"].as_str()?.parse().ok())
        .collect()
}

/// Addresses with port and protocol: each cluster IP, each load balancer's, and a NodePort once a
/// family; what clients outside dial counts twice where they are treated in another way than pods.
fn frontends(service: &Value) -> usize {
    let views = match service["spec"]["externalTrafficPolicy"].as_str() {
        Some("Local") => 2,
        _ => 1,
    };
    let inside = cluster_ips(service).len();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .map(|port| {
            let node_ports = usize::from(!port["nodePort"].is_null()) * inside;
            inside + (node_ports + ingress_ips(service).len()) * views
        })
        .sum()
}

fn number(value: &Value) -> Result<u16> {
    let number = value.as_u64().context("a Service without such a port")?;
    Ok(u16::try_from(number)?)
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    Some(Endpoint {
        pod: value["targetRef"]["name"].as_str()?.to_owned(),
        node: value["nodeName"].as_str()?.to_owned(),
        address: value["addresses"][0].as_str()?.parse().ok()?,
    })
}

fn parse(text: &str) -> Result<Vec<Value>> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}

/// `text` with `ready` and `serving` of the endpoints of `pod` set. An endpoint is the lines from
/// its `addresses` to its `targetRef`, which names the pod.
fn with_readiness(text: &str, pod: &str, ready: bool) -> String {
    let target = format!("name: {pod}}}");
    let set = |block: &str| {
        ["ready", "serving"]
            .iter()
            .fold(block.to_owned(), |block, key| {
                block.replace(&format!("{key}: {}", !ready), &format!("{key}: {ready}"))
            })
    };
    let mut edited = String::with_capacity(text.len() + 16);
    for (number, block) in text.split("  - addresses:").enumerate() {
        if number > 0 {
            edited.push_str("  - addresses:");
        }
        if number > 0 && block.contains(&target) {
            edited.push_str(&set(block));
        } else {
            edited.push_str(block);
        }
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied() -> (tempfile::TempDir, Manifests) {
        let to = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/demo");
        let manifests = Manifests::copy(&from, to.path()).unwrap();
        (to, manifests)
    }

    fn conditions(directory: &Path) -> Vec<(String, bool, bool)> {
        let text = fs::read_to_string(directory.join("web.yaml")).unwrap();
        parse(&text)
            .unwrap()
            .iter()
            .flat_map(|o| o["endpoints"].as_array().cloned().unwrap_or_default())
            .map(|e| {
                let is = |key: &str| e["conditions"][key].as_bool().unwrap();
                let pod = e["targetRef"]["name"].as_str().unwrap().to_owned();
                (pod, is("ready"), is("serving"))
            })
            .collect()
    }

    #[test]
    fn readiness_changes_for_one_pod_in_both_families_and_back() {
        let (to, manifests) = copied();
        let before = fs::read_to_string(to.path().join("web.yaml")).unwrap();
        manifests.set_ready("web-2", false).unwrap();
        let edited = conditions(to.path());
        assert_eq!(edited.len(), 8);
        for (pod, ready, serving) in edited {
            assert_eq!((ready, serving), (pod != "web-2", pod != "web-2"), "{pod}");
        }
        manifests.set_ready("web-2", true).unwrap();
        let after = fs::read_to_string(to.path().join("web.yaml")).unwrap();
        assert_eq!(after, before);
        assert!(manifests.set_ready("web-2", true).is_err());
    }

    #[test]
    fn headless_services_promise_no_address() {
        let (_to, manifests) = copied();
        assert!(manifests.vips("db").unwrap().is_empty());
        assert_eq!(manifests.endpoints("db").len(), 4);
        let vips: Vec<String> = manifests
            .vips("web")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(vips, ["10.96.0.100:80", "[fd00:96::100]:80"]);
        assert_eq!(manifests.frontends(), 7 + 6 + 3 + 2);
    }

    #[test]
    fn clients_outside_find_a_node_port_and_a_load_balancer() {
        let (_to, manifests) = copied();
        assert_eq!(manifests.node_port("shop").unwrap(), 30_080);
        assert!(manifests.node_port("web").is_err());
        let addresses = manifests.load_balancers("shop").unwrap();
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["203.0.113.10:80", "[2001:db8:cb00::10]:80"]);
        assert_eq!(manifests.load_balancer_ips().len(), 3);
    }
}
