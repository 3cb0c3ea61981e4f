#!/bin/busybox sh
# shellcheck shell=dash
# PID 1 of the initial RAM disk: mounts the host's root, read-only, below a RAM disk for changes, and hands over.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in $($busybox cat /modules/order); do $busybox insmod "/modules/$module" || echo "no module $module"; done
shared=trans=virtio,version=9p2000.L
$busybox mount -t tmpfs tmpfs /changes
$busybox mkdir /changes/upper /changes/work
$busybox mount -t 9p -o $shared,ro,msize=1048576,cache=loose root /lower
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/changes/upper,workdir=/changes/work overlay /new
$busybox mkdir -p /new/lab
$busybox mount -t 9p -o $shared,rw,msize=131072,cache=none lab /new/lab
for mount in proc sys dev; do $busybox mount --move /$mount /new/$mount; done
exec $busybox switch_root /new /bin/bash /lab/guest.sh
