#!/bin/bash
# PID 1 of a virtual Pi: brings Bluetooth up as a Pi does, by a UART, then runs the jobs that the host asks for.
#
# /lab is shared with the host: this file, the scripts of the jobs and what they write.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONUNBUFFERED=1
say() { echo "lab: $(cut -d' ' -f1 /proc/uptime) s: $*"; }

name=$1
export LAB_MACHINE=$name
# shellcheck disable=SC1091  # it is written when the machine starts
. /lab/devices.sh

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/dbus /run/lab /run/lock /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do # as udev has them
  [ -e "/dev/${link%%:*}" ] || ln -s "${link#*:}" "/dev/${link%%:*}"
done
mount -t debugfs debugfs /sys/kernel/debug
hostname "$name"
echo "127.0.0.1 localhost $name" >/etc/hosts
ip link set lo up

# What a Pi keeps on its card: this survives `lab kill`. What the host was given it has: barriers would add nothing.
mount -t ext4 -o barrier=0 "$DISK" /mnt
for place in bluetooth bt-selfsecure; do
  mkdir -p "/mnt/$place" "/var/lib/$place"
  mount --bind "/mnt/$place" "/var/lib/$place"
done
chmod 700 /var/lib/bluetooth

dbus-uuidgen --ensure=/etc/machine-id
dbus-daemon --system --fork
# Nobody sits at a Pi to confirm that a peer which lost its link key may pair again.
sed -i 's/^#\?JustWorksRepairing.*/JustWorksRepairing = always/' /etc/bluetooth/main.conf
# A nap without a process of its own: on an emulated CPU each costs a tenth of a second.
mkfifo /run/lab/never
exec {never}<>/run/lab/never
nap() { ((SECONDS < 60)) && { read -rt 0.3 -u "$never" || true; }; }
if [ -c "$UART" ]; then
  btattach -B "$UART" -P h4 >/run/lab/btattach.log 2>&1 &
  until [ -e /sys/class/bluetooth/hci0 ]; do nap || break; done
  /usr/libexec/bluetooth/bluetoothd --nodetach --experimental >/run/lab/bluetoothd.log 2>&1 &
  until [[ $(hciconfig hci0 2>&1) = *"UP RUNNING"* ]]; do nap || break; done
fi
exec {never}>&-
say "$(hciconfig hci0 2>&1 | grep -m1 -o 'UP RUNNING' || echo 'no adapter')"
# shellcheck source-path=SCRIPTDIR source=jobs.sh
. /lab/jobs.sh
sync
echo o >/proc/sysrq-trigger
sleep 10
