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
# shellcheck disable=SC2034  # units.sh uses it
root=/new
# shellcheck source-path=SCRIPTDIR source=units.sh
. /new/lab/units.sh
for mount in proc sys dev; do $busybox mount --move /$mount /new/$mount; done
exec $busybox switch_root /new /sbin/init
