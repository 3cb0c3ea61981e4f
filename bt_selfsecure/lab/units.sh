# shellcheck shell=dash disable=SC2154
# Sourced before a machine's system begins, by whichever initial script: what the lab needs there goes below /run of the
# system at $root, so nothing on its disk changes by it. $busybox comes before each command, and may be empty.
$busybox mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
units=$root/run/systemd/system
$busybox mkdir -p "$units/multi-user.target.wants"
for unit in "$root"/lab/*.service; do
  $busybox cp "$unit" "$units"
  $busybox ln -s "../${unit##*/}" "$units/multi-user.target.wants"
done
