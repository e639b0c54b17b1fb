//! The kubeconfig that points kubectl and kube-rs at a server.

/// Token in the kubeconfig. The server accepts anyone; clients insist on a user.
const TOKEN: &str = "integration";

/// One cluster, one user, one context, without TLS.
pub(crate) fn kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: lb
clusters:
- name: lb
  cluster:
    server: {url}
users:
- name: lb
  user:
    token: {TOKEN}
contexts:
- name: lb
  context:
    cluster: lb
    user: lb
    namespace: default
"
    )
}
