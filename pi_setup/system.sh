# shellcheck shell=bash
# shellcheck disable=SC2034  # much is used by who sources this
# Sourced by what installs on a Pi, upgrades and removes: where things lie, and how they get there.
#
#   /opt/bt-selfsecure/versions/ID/   one virtual environment a version, never changed once it is whole
#   /opt/bt-selfsecure/current        -> versions/ID; switched by one rename, so that a power cut finds the old or the new
#   /usr/local/...                    units and what belongs to them; `systemd_files` and `made_files` name them all

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"

home=/opt/bt-selfsecure
configuration=/etc/bt-selfsecure
state=/var/lib/bt-selfsecure
current=$home/current
user=bt-selfsecure
units=/usr/local/lib/systemd/system
rules=/usr/local/lib/udev/rules.d/70-bt-selfsecure.rules
sysusers=/usr/local/lib/sysusers.d/bt-selfsecure.conf
command_link=/usr/local/bin/bt-selfsecure
completion=/usr/local/share/bash-completion/completions/bt-selfsecure
manual=/usr/local/share/man/man1/bt-selfsecure.1
made_files=("$command_link" "$completion" "$manual")

dry_run=
wheelhouse=
changed=

# run COMMAND...: says it, and does it. What it writes is shown only if it fails, and that ends the script.
run() { attempt_run "$@" || failed "${*@Q}" || exit 1; }

attempt_run() {
  echo "+$(printf ' %q' "$@")"
  [ -n "$dry_run" ] || quietly "$@"
}

# need_root ARGUMENTS...: this script again by sudo, where we are not root.
need_root() {
  [ "$(id -u)" != 0 ] || return 0
  [ -z "$dry_run" ] || return 0
  can_be_root "to change this system" || die "this takes root: sudo $0 $*"
  exec sudo -- "$0" "$@"
}

# take_wheelhouse DIR: pip is to take all from there.
take_wheelhouse() {
  compgen -G "$1/*.whl" >/dev/null || die "there are no wheels in $1: see pi_setup/install --help"
  wheelhouse=$(cd "$1" && pwd)
}

systemd_runs() { [ -d /run/systemd/system ]; }

# SOURCE DESTINATION pairs of all that is copied from systemd/.
systemd_files() {
  local unit
  for unit in "$checkout"/systemd/*.service "$checkout"/systemd/*.socket; do
    echo "$unit $units/${unit##*/}"
  done
  echo "$checkout/systemd/bt-selfsecure.rules $rules"
  echo "$checkout/systemd/bt-selfsecure.sysusers $sysusers"
}

# put SOURCE DESTINATION: a copy, if there is none like it.
put() {
  ! cmp -s "$1" "$2" || return 0
  changed=yes
  run install -D -m 644 "$1" "$2"
}

# A socket that moved is listened on at its new place only once it is restarted.
reload_units() {
  run systemctl daemon-reload
  ! systemctl -q is-active bt-selfsecure-ipsp.socket || run systemctl restart bt-selfsecure-ipsp.socket
}

put_systemd_files() {
  local source destination
  while read -r source destination; do put "$source" "$destination"; done < <(systemd_files)
  [ -n "$changed" ] || return 0
  run systemd-sysusers "$sysusers"
  systemd_runs || return 0
  reload_units
  run udevadm control --reload
  run udevadm trigger --settle --sysname-match=rfkill
}

# The extras beside `node`: what advertising takes, and what a role takes that made its folder.
wished() {
  local extras
  extras=$(discovery)
  { [ "${role-}" != coap ] && [ ! -d "$configuration/coap" ]; } || extras+=${extras:+,}coap
  { [ "${role-}" != bootstrap ] && [ ! -d "$configuration/bootstrap" ]; } || extras+=${extras:+,}pair
  { [ "${role-}" != cloud ] && [ ! -d "$configuration/cloud" ]; } || extras+=${extras:+,}cloud
  case ${role-} in gateway | device) extras+=${extras:+,}iot ;;
    *) [ ! -d "$configuration/gateway" ] && [ ! -d "$configuration/devices" ] || extras+=${extras:+,}iot ;;
  esac
  echo "$extras"
}

# Names this version of ours: the same sources, with the same python and the same system, have the same one.
version_id() {
  (
    cd "$checkout" || exit
    find bt_selfsecure systemd pyproject.toml -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    "$python" -VV
    echo "node,$(wished)"
  ) | sha256sum | cut -c1-12
}

# The pip that Debian's python3-venv brings for new environments. It runs where it is unpacked; to put it into each
# environment, as venv does, takes minutes on a small Pi.
pip_wheel() {
  "$python" -I - <<'PYTHON'
import ensurepip, glob, os
places = "/usr/share/python-wheels", os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
print(next(wheel for place in places for wheel in sorted(glob.glob(place + "/pip-*.whl"))))
PYTHON
}

# seed PLACE: a new environment begins as a copy of the present one: what that has, pip need not fetch and unpack again.
seed() {
  local present library
  present=$(readlink -e "$current") || return 0
  library=$("$python" -I -c 'import sys; print("lib/python%d.%d" % sys.version_info[:2])')
  [ -d "$present/$library" ] || return 0
  # Under another name until the old one's mark is off: after a power cut here nothing passes for whole.
  run rm -rf "$1.seed"
  run cp -a "$present" "$1.seed"
  run rm -f "$1.seed/.whole"
  run mv "$1.seed" "$1"
  run find "$1/bin" -type f -exec sed -i "1s#$present/#$1/#" {} +
}

# take_packages PACKAGE...: from Debian, and noted for pi_setup/uninstall.
take_packages() {
  run env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
  run install -d "$home"
  [ -n "$dry_run" ] || printf '%s\n' "$@" >>"$home/packages"
}

# make_version ID: its environment, if it is not there whole.
make_version() {
  local place=$home/versions/$1 from=() extras pip
  [ ! -e "$place/.whole" ] || return 0
  changed=yes
  if [ -n "$wheelhouse" ]; then from=(--no-index --find-links "$wheelhouse"); fi
  [ ! -e "$place" ] || run rm -rf "$place"
  seed "$place"
  # It sees the system's packages: dbus and gi come from Debian, pip would have to compile them.
  run "$python" -I -m venv --system-site-packages --without-pip "$place"
  say "fetching and unpacking what the node needs: some minutes on a small Pi"
  run "$python" -I -m zipfile -e "$(pip_wheel)" "$home/pip"
  extras=$(wished)
  pip=("$place/bin/python" "$home/pip/pip" install -q --only-binary :all: "${from[@]}")
  if ! attempt_run "${pip[@]}" "${checkout}[node${extras:+,$extras}]" shtab; then
    gather node "$extras" "${pip[@]}" || failed "${pip[*]@Q}" || exit 1
    run "${pip[@]}" "${sources[@]}" "$checkout" "${found[@]}" shtab
  fi
  run rm -rf "$home/pip"
  run "$place/bin/bt-selfsecure" --version
  run sync -f "$home"
  run touch "$place/.whole"
}

# use_version ID: what is started from now on.
use_version() {
  [ "$(readlink "$current")" != "versions/$1" ] || return 0
  changed=yes
  run ln -sfn "versions/$1" "$current.new"
  run mv -T "$current.new" "$current"
  run sync -f "$home"
}

# The versions in use now and before stay, the others go.
remove_other_versions() {
  local place
  for place in "$home"/versions/*; do
    case ${place##*/} in "$1" | "${2-}") ;; *) run rm -rf "$place" ;; esac
  done
}

# A manual page of all --help texts: pages that are typed twice drift apart.
write_manual() {
  COLUMNS=80 "$current/bin/python" -I - <<'PYTHON'
import argparse
from bt_selfsecure.cli.main import parser

def section(parser):
    text = parser.format_help().replace("\\", "\\e").replace("-", "\\-")
    print(f".SH {parser.prog}\n.nf\n" + "\n".join("\\&" + line for line in text.splitlines()) + "\n.fi")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                section(command)

print('.TH BT-SELFSECURE 1 "" "" "User Commands"\n.SH NAME')
print("bt-selfsecure \\- secure sessions over Bluetooth, with keys made from lost packets")
section(parser())
PYTHON
}

# The command, its completion and its manual page.
put_command() {
  local made
  if [ "$(readlink "$command_link")" != "$current/bin/bt-selfsecure" ]; then
    run install -d "${command_link%/*}"
    run ln -sfn "$current/bin/bt-selfsecure" "$command_link"
  fi
  [ -n "$changed" ] || return 0
  made=$(mktemp -d)
  if [ -z "$dry_run" ]; then
    # By its function: shtab's own command imports from the current folder.
    "$current/bin/python" -I -c '
from bt_selfsecure.cli.main import parser
from shtab import complete
print(complete(parser(), "bash"))' >"$made/completion"
    write_manual >"$made/manual"
  fi
  put "$made/completion" "$completion"
  put "$made/manual" "$manual"
  rm -r "$made"
}

# is_healthy ID SECONDS: whether the node of that version says so of itself within that time, or at least answers
# where it was unhealthy before (no adapter, say).
# `was_healthy` is set by who calls this.
is_healthy() {
  local until=$((SECONDS + $2)) answer main
  while [ $SECONDS -lt $until ]; do
    main=$(systemctl show -P MainPID bt-selfsecure.service)
    if systemctl -q is-active bt-selfsecure.service && [ "$main" != 0 ] &&
      tr '\0' '\n' <"/proc/$main/cmdline" 2>/dev/null | grep -q "/$1/"; then
      answer=$("$home/versions/$1/bin/bt-selfsecure" status --json 2>/dev/null) || [ "${was_healthy-yes}" = no ] || answer=
      [ -z "$answer" ] || return 0
    fi
    sleep 1
  done
  return 1
}
