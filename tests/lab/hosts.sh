#!/bin/bash
# Hosts on one machine, without containers: each has its own network, process, mount and host-name space, an overlay of this
# machine's root that it may write to, and an sshd. Root only. Nothing of it is left on the machine after `down`.
#
#   hosts.sh up N | down | exec I COMMAND… | cut I | mend I      with LAB=an empty folder
#
# Host 0 launches, host 1 is a head or controller, the rest work; host I is 10.88.0.(10+I). $LAB/shared is /shared on all of
# them, $LAB/key their ssh key. LAB_LAYER may name a folder that is laid over the root first: what this machine has not
# installed (sshd, rsync, slurm-wlm, munge), unpacked there.
set -eu
: "${LAB:?an empty folder}"
export LAB LAB_LAYER=${LAB_LAYER:-}
NET=10.88.0 PREFIX=eurekalab HERE=$(cd "$(dirname "$0")" && pwd)

up() {
  mkdir -p "$LAB/shared"
  [ -e "$LAB/key" ] || ssh-keygen -q -t ed25519 -N "" -f "$LAB/key"
  ip netns add $PREFIX-switch
  ip -n $PREFIX-switch link add bridge type bridge
  ip -n $PREFIX-switch addr add $NET.1/24 dev bridge
  ip -n $PREFIX-switch link set bridge up
  for i in $(seq 0 "$1"); do host "$i"; done
}

host() {
  local i=$1 space=$PREFIX-$1
  ip netns add "$space"
  ip -n $PREFIX-switch link add "to$i" type veth peer name eth0 netns "$space"
  ip -n $PREFIX-switch link set "to$i" master bridge up
  ip -n "$space" link set lo up
  ip -n "$space" addr add "$NET.$((10 + i))/24" dev eth0
  ip -n "$space" link set eth0 up
  ip -n "$space" route add default via $NET.1   # nothing forwards; Ray looks for the way out to find its own address
  mkdir -p "$LAB/host$i/top" "$LAB/host$i/root"
  setsid ip netns exec "$space" unshare --mount --pid --uts --ipc --fork --kill-child --propagation private \
    bash "$HERE/host.sh" "$i" >"$LAB/host$i/log" 2>&1 </dev/null &
  echo $! >"$LAB/host$i/pid"
}

inside() {  # the first process of a host, as seen from outside
  pgrep -P "$(cat "$LAB/host$1/pid")" | head -n 1
}

down() {
  for file in "$LAB"/host*/pid; do
    [ -e "$file" ] && kill -KILL "$(cat "$file")" 2>/dev/null || true
  done
  sleep 0.5
  for space in $(ip netns list | cut -d' ' -f1 | grep "^$PREFIX-" || true); do ip netns del "$space"; done
  rm -rf "$LAB"/host*
}

case $1 in
  up) up "$2" ;;
  down) down ;;
  exec) i=$2; shift 2; exec nsenter -t "$(inside "$i")" -m -p -u -i -n -r -w "$@" ;;
  cut) ip -n $PREFIX-switch link set "to$2" down ;;
  mend) ip -n $PREFIX-switch link set "to$2" up ;;
  *) echo "hosts.sh: got '$1'; expected up, down, exec, cut or mend" >&2; exit 2 ;;
esac
