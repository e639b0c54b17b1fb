# Two images of static programs and nothing else: no shell, no libc, nothing to patch.
#
# `cargo xtask image` builds the programs into target/image, which is the context, and the
# images from this file, with or without an engine. Its own reader knows the instructions
# below and refuses others.

# The traffic server and client of conformance tests: what their pods run.
FROM scratch AS lb-conformance-agent
COPY lb-agent /usr/bin/
ENV PATH=/usr/bin
ENTRYPOINT ["/usr/bin/lb-agent"]

# What the DaemonSet of manifests/ runs. The last stage: what a build without --target makes.
FROM scratch AS lb
COPY lb-controller lbctl /usr/bin/
# For `kubectl exec POD -- lbctl status`.
ENV PATH=/usr/bin
ENTRYPOINT ["/usr/bin/lb-controller"]
