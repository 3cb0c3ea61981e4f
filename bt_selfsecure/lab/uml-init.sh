# shellcheck shell=bash disable=SC2154,SC2153
# First script of a virtual Pi that is a program (uml.py). Its root is the host's, read-only; it hands over to what is
# above that or, where the machine has a system of its own, to that. $LAB, $MODULES and $NAME come from the command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# hostfs takes its path as mount(2) gives it, which util-linux 2.39 would not call any more.
export LIBMOUNT_FORCE_MOUNT2=always
mount -n -t proc proc /proc
mount -n -t sysfs sys /sys
mount -n -t tmpfs tmpfs /mnt
mkdir /mnt/changes /mnt/work /mnt/new
# ps and vmstat of procps 4.0.2 end where they find no core.
sed 's/^mode\t.*/core id\t\t: 0/' /proc/cpuinfo >/mnt/cpuinfo
mount -n --bind /mnt/cpuinfo /proc/cpuinfo
root=/mnt/new
if [ -n "${SYSTEM-}" ]; then
  mount -n -t ext4 -o barrier=0 /dev/ubda $root
else
  mount -n -t overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work overlay $root
fi
mkdir -p $root/lab "$root/lib/modules/$(uname -r)"
mount -n -t hostfs -o "$MODULES" modules "$root/lib/modules/$(uname -r)"
# sync: what a job has written, the host has.
mount -n -t hostfs -o "sync,$LAB" lab $root/lab
for mount in proc sys dev; do mount -n --move /$mount $root/$mount; done
next=(/bin/bash /lab/guest.sh "$NAME")
if [ -n "${SYSTEM-}" ]; then
  busybox=
  # shellcheck source-path=SCRIPTDIR source=units.sh
  . "$root/lab/units.sh"
  next=(/sbin/init)
fi
unset LIBMOUNT_FORCE_MOUNT2
cd $root || exit
pivot_root . mnt
exec chroot . /bin/bash -c 'umount -l /mnt; exec "$@"' bash "${next[@]}"
