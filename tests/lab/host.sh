#!/bin/bash
# The first process of a lab's host (hosts.sh): makes its root, then runs sshd and waits.
set -eu
i=$1 place=$LAB/host$i root=$LAB/host$i/root
mount -t tmpfs -o size=2g tmpfs "$place/top"        # an overlay's upper layer may not lie on the overlay's own lower one
mkdir "$place/top/up" "$place/top/work"
[ -z "$LAB_LAYER" ] || cp -a "$LAB_LAYER/." "$place/top/up/"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/top/up,workdir=$place/top/work" "$root"
mount -t tmpfs -o size=2g,mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/shared" "$root$LAB" "$root/run/sshd"
mount --bind "$LAB/shared" "$root/shared"
mount -t tmpfs -o size=1m,mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
for device in null zero full random urandom tty; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o size=1g tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mkdir -p "$root$HOME" && mount -t tmpfs -o size=256m,mode=700 tmpfs "$root$HOME/.cache" 2>/dev/null || true
rm -rf "$root$HOME/.ssh" "$root$HOME/.ray"; mkdir -m 700 "$root$HOME/.ssh"
cp "$LAB/key" "$LAB/key.pub" "$root$HOME/.ssh/"
install -m 600 "$LAB/key.pub" "$root$HOME/.ssh/authorized_keys"
sed -i '1i export RAY_worker_niceness=0' "$root$HOME/.bashrc" 2>/dev/null || echo 'export RAY_worker_niceness=0' >"$root$HOME/.bashrc"
hostname "host$i"
{ echo "127.0.0.1 localhost"; for k in $(seq 0 9); do echo "10.88.0.$((10 + k)) host$k"; done; } >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
exec chroot "$root" /bin/bash -c '
  cd; ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/host
  /usr/sbin/sshd -D -e -h ~/.ssh/host -o PidFile=none -o UsePAM=no -o PermitRootLogin=prohibit-password &
  while :; do wait -n || sleep 1; done'
