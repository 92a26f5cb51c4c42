#!/bin/bash
# alone.sh COMMAND…: runs it with a loopback and processes of its own, its own folder of Ray's sessions, shared memory and /etc.
# All that it started ends with it, and nothing outside is touched. Root only.
set -eu
exec unshare --net --pid --mount --ipc --fork --kill-child --mount-proc --propagation private bash -euc '
  ip link set lo up
  mkdir -p /tmp/ray
  mount -t tmpfs -o size=1g tmpfs /tmp/ray
  mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
  mkdir /tmp/ray/up /tmp/ray/work
  mount -t overlay overlay -o lowerdir=/etc,upperdir=/tmp/ray/up,workdir=/tmp/ray/work /etc
  exec "$@"' alone "$@"
