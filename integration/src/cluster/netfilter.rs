//! The packet filter of a node as CNI plugins leave it.

use std::sync::Arc;

use anyhow::Result;

use super::Node;

const TABLE: &str = "cni";

/// Rules in a node's namespace; dropping the value removes them.
///
/// What traffic of the pod range does when it leaves the range is what flannel and others want
/// (masquerading); the forward chain drops what is not to or from pods, as a node does that also
/// runs a container engine; and packets that connection tracking cannot place are dropped, as
/// kube-proxy's own rules do.
#[derive(Debug)]
pub struct CniRules {
    node: Arc<Node>,
}

// === impl CniRules ===

impl CniRules {
    /// Puts the rules into the node's namespace.
    pub fn install(node: &Arc<Node>) -> Result<Self> {
        node.netns().tool_with("nft", &["-f", "-"], &rules())?;
        Ok(Self {
            node: Arc::clone(node),
        })
    }

    /// How many packets a rule of this name has dropped: `invalid` or `stranger`.
    pub fn dropped(&self, name: &str) -> Result<u64> {
        let shown = self
            .node
            .netns()
            .tool_output("nft", &["list", "counter", "inet", TABLE, name])?;
        let packets = shown.split_whitespace().skip_while(|&w| w != "packets");
        Ok(packets
            .skip(1)
            .find_map(|w| w.parse().ok())
            .unwrap_or_default())
    }
}

impl Drop for CniRules {
    fn drop(&mut self) {
        let netns = self.node.netns();
        // A cluster dropped first has taken the namespace with it.
        if netns.path().exists()
            && let Err(error) = netns.tool("nft", &["delete", "table", "inet", TABLE])
        {
            tracing::warn!(node = self.node.name(), "removing its rules: {error:#}");
        }
    }
}

fn rules() -> String {
    format!(
        "table inet {TABLE} {{
            counter invalid {{ }}
            counter stranger {{ }}
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr 10.244.0.0/16 ip daddr != {{ 10.244.0.0/16, 224.0.0.0/4 }} masquerade
                ip6 saddr fd00:244::/32 ip6 daddr != {{ fd00:244::/32, ff00::/8 }} masquerade
            }}
            chain input {{
                type filter hook input priority filter; policy accept;
                ct state invalid counter name invalid drop
            }}
            chain forward {{
                type filter hook forward priority filter; policy drop;
                ct state invalid counter name invalid drop
                ip saddr 10.244.0.0/16 accept
                ip daddr 10.244.0.0/16 accept
                ip6 saddr fd00:244::/32 accept
                ip6 daddr fd00:244::/32 accept
                counter name stranger
            }}
        }}"
    )
}
