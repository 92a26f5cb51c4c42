#!/bin/bash
# Slurm in a lab's host: munge, the controller on host 1, a slurmd on each of hosts 1 to 3.  slurm.sh I, run inside host I.
set -eu
i=$1
install -d -o munge -g munge -m 700 /etc/munge /var/log/munge /var/lib/munge
install -d -o munge -g munge -m 755 /run/munge
install -o munge -g munge -m 400 /shared/munge.key /etc/munge/munge.key
mkdir -p /etc/slurm /var/lib/slurm/control /var/lib/slurm/node /sys/fs/cgroup 2>/dev/null || true
cp /shared/slurm.conf /etc/slurm/slurm.conf
echo "CgroupPlugin=cgroup/v1" > /etc/slurm/cgroup.conf
setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --force
[ "$i" != 1 ] || /usr/sbin/slurmctld
[ "$i" = 0 ] || /usr/sbin/slurmd
