#!/bin/busybox sh
# shellcheck shell=dash
# PID 1 of the initial RAM disk of a machine with a whole system: mounts its disk, adds below /run what the lab needs
# there (nothing on the disk changes by it), and hands over to systemd.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in $($busybox cat /modules/order); do $busybox insmod "/modules/$module" || echo "no module $module"; done
$busybox mount -t ext4 /dev/vda /new
$busybox mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=131072,cache=none lab /new/lab
$busybox mount -t tmpfs -o mode=755,nosuid,nodev run /new/run
units=/new/run/systemd/system
$busybox mkdir -p $units/multi-user.target.wants
for unit in /new/lab/*.service; do
  $busybox cp "$unit" $units
  $busybox ln -s "../${unit##*/}" $units/multi-user.target.wants
done
for mount in proc sys dev; do $busybox mount --move /$mount /new/$mount; done
exec $busybox switch_root /new /sbin/init
