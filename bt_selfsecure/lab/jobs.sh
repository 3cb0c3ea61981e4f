# shellcheck shell=bash
# Sourced inside a virtual Pi when its adapter is up: runs the jobs that the host asks for, until it says off.

# shellcheck disable=SC1091  # it is written when the machine starts
. /lab/devices.sh
# With a profile of the lab's: the host's, which this machine sees too, may be long and do anything.
# shellcheck disable=SC2094  # it is a terminal
(while :; do setsid --ctty bash --rcfile /lab/shell.rc -i <"$SHELL_LINE" >"$SHELL_LINE" 2>&1; sleep 1; done) &
exec 3<>"$JOBS"
[ ! -t 3 ] || stty raw -echo <&3
echo ready >&3

job() {
  setsid --wait bash -c "echo \$\$ >/run/lab/$1; exec bash /lab/jobs/$1.sh" </dev/null >"/lab/jobs/$1.out" 2>"/lab/jobs/$1.err" 3>&-
  echo "done $1 $?" >&3
}
while read -r verb id <&3; do
  case $verb in
    run) job "$id" & ;;
    stop) [ ! -e "/run/lab/$id" ] || kill -TERM -- "-$(cat "/run/lab/$id")" ;;
    off) break ;;
  esac
done
