#!/bin/busybox sh
# The first and only process of a guest: tries everything, says how it went in lines that begin
# with "lb: ", and powers off. The kernel's command line says what (lb.focus=A,B).
export PATH=/bin:/sbin:/lb/debug HOME=/root
/bin/busybox --install -s /bin

# busybox prefers what it has itself; these two are more.
ip() { /bin/ip "$@"; }
tc() { /bin/tc "$@"; }

pass() { echo "lb: pass $1"; }
fail() { echo "lb: fail $1: $(echo "$2" | tail -n 3 | tr '\n' ' ')"; }

# expect NAME WORDS COMMAND…: the command's output has WORDS, a pattern, in it.
expect() {
    name=$1 words=$2
    shift 2
    said=$("$@" 2>&1)
    case "$said" in
        *$words*) pass "$name" ;;
        *) fail "$name" "$said" ;;
    esac
}

prepare() {
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mount -t tmpfs tmp /tmp
    mount -t tmpfs run /run
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t bpf bpf /sys/fs/bpf
    hostname guest
    # Where the node is, and where clients are whose sockets have no hooks.
    mkdir /sys/fs/cgroup/node /sys/fs/cgroup/outside
    echo $$ > /sys/fs/cgroup/node/cgroup.procs
    for module in /lb/modules/*; do
        insmod "$module" || echo "not loaded: $module"
    done
    ip link set lo up
    sysctl -q -w net.ipv4.ip_forward=1
    echo "lb: kernel $(uname -r)"
}

# Each program alone: the verifier's word on each.
programs() {
    lb-load /lb/bpf/lb.o 2>&1 | sed '/^lb_/s/^/lb: program /'
}

# A pair of devices: what an uplink looks like, and a client behind it.
network() {
    ip addr add 10.77.0.1/32 dev lo
    ip -6 addr add fd77::1/128 dev lo nodad
    ip netns add client
    ip link add up0 type veth peer name eth0 netns client
    ip addr add 192.0.2.1/24 dev up0
    ip link set up0 up
    ip -n client addr add 192.0.2.2/24 dev eth0
    ip -n client link set eth0 up
    lb-agent serve --name backend --tcp 10.77.0.1:8080 --udp 10.77.0.1:8080 \
        --tcp '[fd77::1]:8080' --udp '[fd77::1]:8080' > /tmp/server 2>&1 &
}

# What sockets of this host reach.
sockets() {
    reached='"reply":"backend"'
    expect "$1TCP to a ClusterIP" "$reached" lb-agent dial tcp 10.96.0.10:80
    expect "$1TCP to an IPv6 ClusterIP" "$reached" lb-agent dial tcp '[fd96::10]:80'
    expect "$1connected UDP to a ClusterIP" "$reached" lb-agent dial udp 10.96.0.10:53
    expect "$1unconnected UDP to a ClusterIP" "$reached" \
        lb-agent dial udp 10.96.0.10:53 --unconnected
    expect "$1unconnected UDP to an IPv6 ClusterIP" "$reached" \
        lb-agent dial udp '[fd96::10]:53' --unconnected
}

dial_from_outside() {
    sh -c 'echo $$ > /sys/fs/cgroup/outside/cgroup.procs
        exec /bin/ip netns exec client lb-agent dial "$@"' sh "$@"
}

# What packets from outside reach.
outside() {
    expect "TCP from outside to a NodePort" "$reached" dial_from_outside tcp 192.0.2.1:30080
    expect "UDP from outside to a NodePort" "$reached" dial_from_outside udp 192.0.2.1:30053
}

controller() {
    network
    lb-controller run --source-files /lb/objects --node-name guest \
        --healthz-bind-address 127.0.0.1:10256 --cgroup /sys/fs/cgroup/node > /tmp/controller 2>&1 &
    controller=$!
    tries=0
    until lbctl status > /tmp/status 2>&1 || [ $tries -ge 150 ]; do
        tries=$((tries + 1))
        kill -0 $controller 2> /dev/null || break
        sleep 1
    done
    cat /tmp/controller /tmp/status
    if ! grep -q '^node ' /tmp/status; then
        fail "the controller starts and programs the node" "$(cat /tmp/controller)"
        return
    fi
    pass "the controller starts and programs the node"
    sed -n 's/.*degraded: /lb: degraded /p' /tmp/status
    lbctl list
    sockets ""
    if grep -q 'returns EPERM' /tmp/status; then refusal='"errno":1,'; else refusal='"errno":111,'; fi
    expect "a Service without endpoints refuses" "$refusal" lb-agent dial tcp 10.96.0.11:80
    outside
    lbctl conntrack list
    kill -9 $controller
    sleep 1
    sockets "without the controller: "
    said=$(lb-controller cleanup 2>&1)
    left=$(find /sys/fs/bpf -mindepth 1; tc filter show dev up0 ingress 2> /dev/null)
    if [ -z "$left" ]; then pass "cleanup leaves nothing"; else
        fail "cleanup leaves nothing" "$said $left"; fi
    expect "after cleanup nothing is translated" '"ok":false' lb-agent dial tcp 10.96.0.10:80
    ip netns del client
    echo $$ > /sys/fs/cgroup/cgroup.procs
}

# The kernel's programs against the host's build of the same pipeline.
rows() {
    said=$(timeout 420 /lb/debug/deps/packets rows_hold_in_the_kernel 2>&1)
    case "$said" in
        *"test result: ok. 1 passed"*) pass "packet rows" ;;
        *)
            fail "packet rows" "$(echo "$said" | grep -c '(Xdp, ') cases at XDP and \
$(echo "$said" | grep -cE '\((Ingress|Egress|Pod[A-Za-z]*), ') at TC fail"
            # Before 5.15 no XDP program can be run so, as its device cannot be given.
            echo "$said" | grep -v '(Xdp, ' | head -n 60
            ;;
    esac
}

# Cases of the conformance suite.
conformance() {
    focus=$(sed -n 's/.*lb\.focus=\([^ ]*\).*/\1/p' /proc/cmdline)
    [ -n "$focus" ] || return
    timeout 1500 lb-conformance --jobs 1 \
        $(echo "$focus" | sed 's/[^,]*/--focus &/g; s/,/ /g') > /tmp/suite 2>&1
    cat /tmp/suite
    counts=$(tail -n 1 /tmp/suite)
    case "$counts" in
        "0 passed"*) fail "conformance" "$counts" ;;
        *"passed, 0 failed"*) pass "conformance: $counts" ;;
        *) fail "conformance" "$counts" ;;
    esac
}

prepare
programs
controller
rows
conformance
echo "lb: end"
poweroff -f
