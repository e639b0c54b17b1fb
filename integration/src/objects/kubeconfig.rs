//! A kubeconfig of the user's, made usable from the nodes.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, ToSocketAddrs},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use http::Uri;
use serde_json::{Value, json};

/// The server of a kubeconfig's current context, and the file itself as it was read.
#[derive(Debug)]
pub struct Kubeconfig {
    content: Value,
    cluster: usize,
    server: Uri,
}

// === impl Kubeconfig ===

impl Kubeconfig {
    /// Reads a file. Paths in it are made absolute.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        Self::parse(
            &text,
            &directory
                .canonicalize()
                .unwrap_or_else(|_| directory.to_owned()),
        )
        .with_context(|| format!("in {}", file.display()))
    }

    fn parse(text: &str, directory: &Path) -> Result<Self> {
        let mut content: Value = serde_norway::from_str(text)?;
        for (list, part) in [("clusters", "cluster"), ("users", "user")] {
            for entry in content[list].as_array_mut().into_iter().flatten() {
                make_absolute(&mut entry[part], directory);
            }
        }
        let named = |list: &str, name: &Value| {
            let entries = content[list].as_array().into_iter().flatten();
            let found = entries.into_iter().position(|entry| entry["name"] == *name);
            found.with_context(|| format!("no {name} among the {list}"))
        };
        let current = named("contexts", &content["current-context"])?;
        let cluster = named(
            "clusters",
            &content["contexts"][current]["context"]["cluster"],
        )?;
        let server = content["clusters"][cluster]["cluster"]["server"].as_str();
        let server = server.context("the cluster has no server")?.parse()?;
        Ok(Self {
            content,
            cluster,
            server,
        })
    }

    /// Where the server is.
    pub fn address(&self) -> Result<SocketAddr> {
        let host = self.host()?;
        let default = if self.is_tls() { 443 } else { 80 };
        let port = self.server.port_u16().unwrap_or(default);
        let mut found = (host, port)
            .to_socket_addrs()
            .with_context(|| format!("looking up {host}"))?;
        found
            .next()
            .with_context(|| format!("{host} has no address"))
    }

    /// Makes it say another address. A certificate is still that of the old name.
    #[must_use]
    pub fn through(mut self, address: SocketAddr) -> Self {
        let name = self.host().map(str::to_owned).unwrap_or_default();
        let tls = self.is_tls();
        let cluster = &mut self.content["clusters"][self.cluster]["cluster"];
        let scheme = if tls { "https" } else { "http" };
        cluster["server"] = json!(format!("{scheme}://{address}"));
        if tls && cluster["tls-server-name"].is_null() {
            cluster["tls-server-name"] = json!(name);
        }
        self
    }

    /// Writes it so that nobody else can read it: it may hold keys.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_norway::to_string(&self.content)?;
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let opened = options.open(file);
        let mut opened = opened.with_context(|| format!("writing {}", file.display()))?;
        Ok(opened.write_all(text.as_bytes())?)
    }

    fn is_tls(&self) -> bool {
        self.server.scheme_str() == Some("https")
    }

    fn host(&self) -> Result<&str> {
        let host = self.server.host().context("the server has no host")?;
        Ok(host.trim_start_matches('[').trim_end_matches(']'))
    }
}

fn make_absolute(entry: &mut Value, directory: &Path) {
    for field in [
        "certificate-authority",
        "client-certificate",
        "client-key",
        "tokenFile",
    ] {
        if let Some(path) = entry[field].as_str() {
            entry[field] = json!(directory.join(path));
        }
    }
    if let Some(fields) = entry.as_object_mut() {
        // Looking a field up has made those that are missing.
        fields.retain(|_, value| !value.is_null());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: b
contexts:
- {name: a, context: {cluster: one, user: me}}
- {name: b, context: {cluster: two, user: me}}
clusters:
- {name: one, cluster: {server: 'https://one:6443'}}
- {name: two, cluster: {server: 'https://127.0.0.1:6444', certificate-authority: ca.crt}}
users:
- {name: me, user: {client-key: /etc/key}}
";

    #[test]
    fn the_current_context_gets_another_address_and_keeps_its_name() {
        let read = Kubeconfig::parse(TEXT, Path::new("/home/me")).unwrap();
        assert_eq!(read.address().unwrap(), "127.0.0.1:6444".parse().unwrap());
        let there = read.through("172.30.0.254:6443".parse().unwrap()).content;
        let cluster = &there["clusters"][1]["cluster"];
        assert_eq!(cluster["server"], "https://172.30.0.254:6443");
        assert_eq!(cluster["tls-server-name"], "127.0.0.1");
        assert_eq!(cluster["certificate-authority"], "/home/me/ca.crt");
        assert_eq!(
            there["clusters"][0]["cluster"]["server"],
            "https://one:6443"
        );
        assert_eq!(there["users"][0]["user"], json!({"client-key": "/etc/key"}));
    }

    #[test]
    fn a_context_that_is_not_there_is_named() {
        let text = TEXT.replace("current-context: b", "current-context: c");
        let error = Kubeconfig::parse(&text, Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "no \"c\" among the contexts");
    }
}
