#!/bin/busybox sh
# shellcheck shell=dash
# PID 1 of the initial RAM disk. Loads the modules, up to where every machine is the same; there the host keeps the
# machine's state (snapshot.py), or begins with a kept one and says which machine it is and what time. Then mounts the
# host's root, read-only, below a RAM disk for changes, and hands over.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in $($busybox cat /modules/order); do $busybox insmod "/modules/$module" || echo "no module $module"; done
$busybox head -c 1 /dev/random >/dev/null # once there are random numbers
until port=$($busybox grep -lx jobs /sys/class/virtio-ports/*/name); do $busybox sleep 0.1; done
port=${port%/name}
exec 3<>"/dev/${port##*/}"
echo booted >&3
read -r _ name now <&3
exec 3>&-
$busybox date -s "@$now" >/dev/null
# No machine may draw the random numbers of another: the kernel draws new ones when it finds itself in a new machine.
tries=0
until $busybox dmesg | $busybox grep -q 'reseeded due to virtual machine fork'; do
  [ $((tries += 1)) -lt 50 ] || { echo "the kernel drew no new random numbers"; $busybox poweroff -f; }
  $busybox sleep 0.1
done
shared=trans=virtio,version=9p2000.L
$busybox mount -t tmpfs tmpfs /changes
$busybox mkdir /changes/upper /changes/work
$busybox mount -t 9p -o $shared,ro,msize=1048576,cache=loose root /lower
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/changes/upper,workdir=/changes/work overlay /new
$busybox mkdir -p /new/lab
modules=/new/lib/modules/$($busybox uname -r)
$busybox mkdir -p "$modules"
$busybox mount -t 9p -o $shared,ro,msize=1048576,cache=loose modules "$modules"
$busybox mount -t 9p -o $shared,rw,msize=131072,cache=none lab /new/lab
for mount in proc sys dev; do $busybox mount --move /$mount /new/$mount; done
exec $busybox switch_root /new /bin/bash /lab/guest.sh "$name"
