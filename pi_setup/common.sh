# shellcheck shell=bash
# Sourced by pi_setup/demo and pi_setup/test: Debian's python3, what apt must add, and the virtual environment.

checkout=$(cd -P "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
venv=$(realpath -ms "${BT_SELFSECURE_VENV:-$checkout/.venv}")

# Debian's own python3: many other builds lack socket.AF_BLUETOOTH.
python=/usr/bin/python3
[ -x $python ] || command -v apt-get >/dev/null || python=$(command -v python3 || echo python3)

# What virtual Pis run on, and run; as `absent` takes it.
# shellcheck disable=SC2034  # used by who sources this
lab_packages=(
  qemu-system-x86_64=qemu-system-x86 hciconfig=bluez btmgmt=bluez dbus-daemon=dbus dbus-uuidgen=dbus-bin cpio
  depmod=kmod mke2fs=e2fsprogs ip=iproute2 tc=iproute2 ping=iputils-ping zstd dbus.py=python3-dbus gi.py=python3-gi
  cairo.py=python3-cairo
)
# What compiles the kernel with which they are fast where there is no KVM (bt_selfsecure/lab/uml.py).
# shellcheck disable=SC2034
kernel_packages=(gcc make flex bison bc xz=xz-utils /usr/include/stdio.h=libc6-dev)

# no_lab: why there can be no virtual Pis on this system; empty where there can.
no_lab() {
  local here
  here=$(dpkg --print-architecture 2>/dev/null || echo amd64)
  [ "$here" = amd64 ] || echo "they boot Debian's kernel for amd64, and this system is $here"
}

# What the caller may have set that would lead python or pip astray.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# dbus-fast is whole without its compiled half.
export SKIP_CYTHON=1

# Progress goes to stderr: stdout belongs to the command itself (demo --json).
say() { printf 'pi_setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 2; }

log=
trap '[ -z "$log" ] || rm -f "$log"' EXIT
# Without this bash goes on after Ctrl-C where the program that it waited for ends on its own (apt-get does, with 0).
trap 'exit 130' INT

# quietly COMMAND...: what it writes is in $log where it fails, and gone where it does not.
quietly() {
  log=${log:-$(mktemp)}
  "$@" >"$log" 2>&1 </dev/null || return
  rm -f "$log"
  log=
}

# failed TEXT: what the command wrote that just failed, and what it was for.
failed() {
  cat "$log" >&2
  rm -f "$log"
  log=
  say "failed, for the reason above: $1"
  return 1
}

# attempt TEXT COMMAND...: a line of progress; what the command writes is shown only if it fails.
attempt() {
  say "$1"
  quietly "${@:2}" || failed "$1"
}

# step TEXT COMMAND...: the same, and the script ends where it fails.
step() { attempt "$@" || exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# can_be_root PURPOSE: is root, may use sudo without a password, or has a terminal and is in a group that sudo serves.
can_be_root() {
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null || return
  sudo -n true 2>/dev/null && return
  [[ " $(id -nG) " =~ \ (sudo|admin|wheel)\  ]] && { : </dev/tty; } 2>/dev/null && sudo -v -p "Password of %p, $1: "
}

# A package source that can't be updated may be one that is not needed: the installation decides. Of PostgreSQL no
# cluster is made and started, as its package would by itself: the tests make their own.
apt_install() (
  as_root apt-get -q update
  if [[ " $* " = *" postgresql "* ]]; then
    no_cluster=/etc/postgresql-common/createcluster.d/bt-selfsecure.conf
    trap 'as_root sh -c "rm -f $no_cluster; rmdir -p --ignore-fail-on-non-empty ${no_cluster%/*}"' EXIT
    as_root sh -c "mkdir -p ${no_cluster%/*} && echo create_main_cluster = off >$no_cluster"
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
)

has_venv() { "$python" -I -c 'import ensurepip, venv' 2>/dev/null; }

# Names the Debian packages of those things that are not there. A thing is COMMAND, COMMAND=PACKAGE (where they are not
# called alike), MODULE.py=PACKAGE or /FILE=PACKAGE.
absent() {
  local thing name
  for thing in "$@"; do
    name=${thing%%=*}
    case $name in
      /*) [ -e "$name" ] ;;
      *.py) "$python" -I -c "import ${name%.py}" 2>/dev/null ;;
      *) PATH=$PATH:/usr/sbin:/sbin command -v "$name" >/dev/null ;;
    esac || echo "${thing#*=}"
  done | sort -u
}

# need_packages "NEEDED..." "WISHED...": python3 with venv and the needed things, or an exit that says how to get
# them; the wished ones come along where something can be installed. Things are what `absent` takes.
need_packages() {
  local needed wished
  read -ra needed <<<"$1"
  read -ra wished <<<"$2"
  mapfile -t needed < <(
    command -v "$python" >/dev/null || echo python3
    has_venv || echo python3-venv
    absent "${needed[@]}"
  )
  mapfile -t wished < <(absent "${wished[@]}")
  local missing=("${needed[@]}" "${wished[@]}")
  [ ${#missing[@]} != 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]} (Debian's names). There is no apt here: install them with this system's own means"
    has_venv || exit 2
  elif can_be_root "to install ${missing[*]}"; then
    # Without those that are only wished (no network, say) it goes on.
    attempt "installing ${missing[*]} with apt (once, about a minute)" apt_install "${missing[@]}" ||
      [ ${#needed[@]} = 0 ] || exit 1
  elif [ ${#needed[@]} != 0 ]; then
    die "missing: ${needed[*]}. Install with: sudo apt-get update && sudo apt-get install -y ${needed[*]}"
  fi
}

# The extra with bluezero, where the bindings that it takes are there (pip would have to compile them).
discovery() { [ -n "$(absent dbus.py gi.py cairo.py)" ] || echo discovery; }

# --- what can be had: pip's wheels, Debian's packages; nothing is compiled

# What pip is given as source too, having no wheel of it: its compiled half can be left out.
pure=dbus-fast

# parts EXTRAS: what the package needs with these, a requirement a line.
parts() {
  "$python" -I - "$checkout/pyproject.toml" "$1" <<'PYTHON'
import sys, tomllib
from pathlib import Path

own = tomllib.loads(Path(sys.argv[1]).read_text())["project"]

def parts(needs):
    for need in needs:
        name, _, extras = need.rstrip("]").partition("[")
        if name == own["name"]:
            yield from parts(need for extra in extras.split(",") for need in own["optional-dependencies"][extra])
        else:
            yield need

extras = [f"{own['name']}[{sys.argv[2]}]"] if sys.argv[2] else []
print(*dict.fromkeys(parts(own["dependencies"] + extras)), sep="\n")
PYTHON
}

# debian_has NAME PART: python3-NAME, where Debian has one; for the part itself, where it is new enough.
debian_has() {
  local package=python3-${1,,} version
  version=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\?\([0-9].*\)/\2/p')
  [ -n "$version" ] || return 0
  [ "$1" != "${2%%[^A-Za-z0-9._-]*}" ] || [[ ! $2 =~ [=\>]=\ *([0-9.]+) ]] ||
    dpkg --compare-versions "$version" ge "${BASH_REMATCH[1]}" || return 0
  echo "$package"
}

# have PART PIP...: whether `PIP... PART` can install it (PIP is quiet). What Debian has of it, or of what it needs, is
# installed for that.
have() {
  local part=$1 name package tried=" "
  shift
  until quietly "$@" "${sources[@]}" -v --dry-run "$part"; do
    package=
    while [ -z "$package" ] && read -r name; do
      [[ $tried != *" $name "* ]] || continue
      tried+="$name "
      package=$(debian_has "$name" "$part")
      if [ "$name" = "$pure" ]; then sources=(--no-binary "$pure") package=source; fi
    done < <(
      echo "${part%%[^A-Za-z0-9._-]*}"
      sed -nE 's/^ERROR: No matching distribution found for ([A-Za-z0-9._-]+).*/\1/p
        s/^ .* depends on ([A-Za-z0-9._-]+).*/\1/p' "$log" | sort -u
    )
    case $package in "") return 1 ;; source) ;; *) take_packages "$package" || true ;; esac
  done
}

take_packages() {
  if can_be_root "to install $*"; then
    attempt "installing $* with apt (once)" apt_install "$@"
  else
    say "missing: $*. Install with: sudo apt-get update && sudo apt-get install -y $*"
    return 1
  fi
}

# gather NEEDED WISHED PIP...: after `PIP...` failed for these extras, what it can install of their parts, in `found`.
# What can't be had of the wished ones is named, and in `left_out`; without a needed one it fails, as where there is no
# answer to what pip asks.
gather() {
  local needs part why
  why=$(cat "$log")
  if ! quietly "${@:3}" --dry-run --ignore-installed hatchling; then
    echo "$why" >"$log"
    return 1
  fi
  say "not all of it is there in wheels: asking pip and Debian for one part after the other (minutes on a small Pi)"
  ! can_be_root "to see what Debian has" || quietly as_root apt-get -q update || true
  found=() left_out=() sources=()
  needs=$(parts "$1")
  while read -r part; do
    if have "$part" "${@:3}"; then
      found+=("$part")
    elif grep -qxF -e "$part" <<<"$needs"; then
      return 1
    else
      left_out+=("$part")
    fi
  done < <(parts "$1${2:+${1:+,}$2}")
  local names=("${left_out[@]%%[^A-Za-z0-9._-]*}")
  [ ${#names[@]} = 0 ] || say "left out, as it can't be had here without a compiler: ${names[*]}"
}

# venv_fits: whole, made by this very python, and for this very place (a moved environment keeps its first paths).
venv_fits() {
  [ -x "$venv/bin/pip" ] && "$python" -I - "$venv" 2>/dev/null <<'PYTHON'
import os, platform, sys
venv = sys.argv[1]
made = dict(line.rstrip("\n").split(" = ", 1) for line in open(venv + "/pyvenv.cfg"))
here = made["home"] == os.path.dirname(sys._base_executable) and made["version"] == platform.python_version()
whole = here and made["include-system-site-packages"] == "true"
sys.exit(not (whole and made["command"].endswith(" " + venv)))
PYTHON
}

make_venv() {
  local text="making the virtual environment $venv (once, some seconds)"
  if [ -e "$venv/pyvenv.cfg" ]; then
    text="remaking the virtual environment $venv: it was made by another python, for another place or not to its end"
  elif [ -n "$(ls -A "$venv")" ]; then
    die "$venv is not empty and no virtual environment: set BT_SELFSECURE_VENV to another folder"
  fi
  # It sees the system's packages: dbus and gi (bluezero needs them) come from Debian, pip would have to compile them.
  step "$text" "$python" -I -m venv --clear --system-site-packages "$venv"
}

# has_all NEEDED WISHED: the environment has this checkout, editable, and all that it needs with these extras, and what
# that needs; but for what had to be left out of the wished ones.
has_all() {
  "$venv/bin/python" -I - "$checkout" "$1" "$2" "$venv/.left-out" 2>/dev/null <<'PYTHON'
import json, sys, tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from pip._vendor.packaging.requirements import Requirement

checkout = Path(sys.argv[1])
own = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
origin = json.loads(distribution(own["name"]).read_text("direct_url.json"))
left_out = []
seen = set()

def needs(name, extras):
    if name == own["name"]:
        texts = own["dependencies"] + [text for extra in extras for text in own["optional-dependencies"][extra]]
    else:
        texts = distribution(name).requires or []
    for need in map(Requirement, (text for text in texts if text not in left_out)):
        if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield need

def is_there(need):
    key = need.name, *sorted(need.extras)
    if key in seen:
        return True
    seen.add(key)
    try:
        fits = need.specifier.contains(distribution(need.name).version, prereleases=True)
    except PackageNotFoundError:
        return False
    return fits and all(map(is_there, needs(need.name, need.extras)))

is_ours = origin["url"] == checkout.as_uri() and origin["dir_info"]["editable"]
for extras in sys.argv[2], sys.argv[3]:
    is_ours = is_ours and is_there(Requirement(f"{own['name']}[{extras}]"))
    left_out = Path(sys.argv[4]).read_text().splitlines() if Path(sys.argv[4]).exists() else []
sys.exit(not is_ours)
PYTHON
}

# need_installed NEEDED [WISHED]: the package with these extras, editable, in the environment, but for what can't be had
# of the wished ones; where all is there, without the network.
need_installed() {
  local needs=$1 wishes=${2-} extras=$1${2:+${1:+,}$2} text pip
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$python is older than 3.11: this needs Debian 12, Raspberry Pi OS of 2023, or newer"
  if venv_fits && has_all "$needs" "$wishes"; then return; fi
  { mkdir -p "$venv" && [ -w "$venv" ]; } 2>/dev/null ||
    die "can't write to $venv: set BT_SELFSECURE_VENV to a folder of your own, or remove what is in the way"
  venv_fits || make_venv
  text="installing bt_selfsecure and what its $extras needs with pip (once, about half a minute)"
  # pyDes, which NFC needs, is source only, and Python alone.
  pip=("$venv/bin/python" -I -m pip install -q --no-compile --only-binary :all: --no-binary pyDes)
  rm -f "$venv/.left-out"
  say "$text"
  if quietly "${pip[@]}" -e "${checkout}[$extras]"; then return; fi
  gather "$needs" "$wishes" "${pip[@]}" || failed "$text" || exit 1
  step "installing what can be had" "${pip[@]}" "${sources[@]}" -e "$checkout" "${found[@]}"
  [ ${#left_out[@]} = 0 ] || printf '%s\n' "${left_out[@]}" >"$venv/.left-out"
}
