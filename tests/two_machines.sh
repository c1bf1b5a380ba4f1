#!/bin/sh
# Runs a script as on two machines: torchrun --nnodes 2, each node in a network namespace with an address of its own.
# Usage: two_machines.sh PYTHON SCRIPT ARGUMENTS...   (as root; needs iproute2)
set -eu
python=$1
shift
a=gradual-a-$$ b=gradual-b-$$ va=va$$ vb=vb$$
clean() {
    ip netns del "$a" 2>/dev/null || true
    ip netns del "$b" 2>/dev/null || true
}
trap clean EXIT
ip netns add "$a"
ip netns add "$b"
ip link add "$va" type veth peer name "$vb"
ip link set "$va" netns "$a"
ip link set "$vb" netns "$b"
ip -n "$a" addr add 10.99.0.1/24 dev "$va"
ip -n "$b" addr add 10.99.0.2/24 dev "$vb"
for node in "$a" "$b"; do ip -n "$node" link set lo up; done
ip -n "$a" link set "$va" up
ip -n "$b" link set "$vb" up

node() { # NAMESPACE INTERFACE RANK COMMAND...
    namespace=$1 interface=$2 rank=$3
    shift 3
    GLOO_SOCKET_IFNAME=$interface exec ip netns exec "$namespace" "$python" -m torch.distributed.run --nnodes 2 \
        --nproc_per_node 1 --node_rank "$rank" --master_addr 10.99.0.1 --master_port 29712 "$@"
}
(node "$a" "$va" 0 "$@") &
first=$!
(node "$b" "$vb" 1 "$@") &
second=$!
status=0
wait $first || status=$?
wait $second || status=$?
exit $status
