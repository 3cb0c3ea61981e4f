"""A whole Debian system for virtual Pis: with systemd, its own kernel and a disk of its own, as a Pi has them.

Raspberry Pi OS is Debian with another kernel, so the releases of Debian stand for those of Raspberry Pi OS Lite. A
system is made once by mmdebstrap and kept under the user's cache directory; each machine gets a copy of its disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab.kernel import BUSYBOX, FAULTY, Kernel, cache_directory, keep, make_boot_files, run_tool, unpack

RELEASES: Final = ("bookworm", "trixie")
"""Debian 12 and 13: those that Raspberry Pi OS is made from today."""
PACKAGES: Final = (
    *("linux-image-amd64", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "sudo", "bluez"),
    *("python3-venv", "python3-dbus", "python3-gi", "python3-cairo"),
)
"""What the image has beyond Debian's minimum: what Raspberry Pi OS Lite has of it, and, because these machines have no
Internet, what pi_setup/install would fetch with apt."""
EARLY_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "9pnet_virtio", "9p")
PIN: Final = f"Package: linux-image-*\nPin: version {FAULTY}*\nPin-Priority: -1"
"""apt_preferences(5), for the time of the making."""
DISK_MEGABYTES: Final = 3072
"""Sparse; a system takes 800 MB of it."""

NEEDLESS_UNITS: Final = (
    *("serial-getty@hvc0.service", "serial-getty@ttyS0.service", "systemd-binfmt.service", "e2scrub_reap.service"),
    *("dev-hugepages.mount", "sys-kernel-tracing.mount", "proc-sys-fs-binfmt_misc.automount", "apt-daily.timer"),
    *("apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
)
"""They would take half of the boot's time; the first would take the UART."""
SYSTEMD_OPTIONS: Final = (
    *("systemd.firstboot=off", "systemd.show_status=no", "systemd.log_color=0", "TERM=dumb"),
    *(f"systemd.mask={unit}" for unit in NEEDLESS_UNITS),
)


def system(release: str, progress: Callable[[str], None]) -> Kernel:
    """Return what a machine with this release boots from. Made on first use, which takes root, the network and minutes.

    Raises `UsageError` where it can't be made, with the remedy.
    """
    if release not in RELEASES:
        raise UsageError(f"there is no system {release!r} for machines: take one of {', '.join(RELEASES)}")
    init = files("bt_selfsecure.lab").joinpath("systemd-init.sh").read_text()
    recipe = hashlib.sha256(repr((PACKAGES, PIN, DISK_MEGABYTES, EARLY_MODULES, init)).encode()).hexdigest()[:12]
    home = cache_directory() / f"{release}-{recipe}"

    def make(work: Path) -> Path:
        _require(home)
        progress(f"making a Debian {release} system for machines (once; 300 MB to download, some minutes)")
        return _make(work, release)

    keep(home, make)
    return Kernel(home / "vmlinux", next((home / "lib/modules").iterdir()), home / "initrd", home / "disk")


def _require(home: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise UsageError("making a system for machines needs mmdebstrap: sudo apt-get install -y mmdebstrap")
    if os.geteuid():
        raise UsageError(f"making a system for machines takes root, once: run this with sudo -E, it is kept in {home}")


def _make(work: Path, release: str) -> Path:
    """The disk's image, and the kernel that is on it."""
    made = work / "made"
    made.mkdir()
    disk = made / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_MEGABYTES << 20)
    hooks = (
        'mkdir "$1/lab"',
        'cp -a "$1/boot" "$1/usr/lib/modules" .',
        'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/boot/initrd*',
        # The tree alone, without the proc, sys and dev that are mounted in it now.
        'mkdir tree && mount --bind "$1" tree',
        f"mke2fs -q -t ext4 -d tree {disk.name}; made=$?; umount tree; exit $made",
    )
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--include={','.join(PACKAGES)}"]
    preferences = '"$1/etc/apt/preferences.d/kernel"'
    command += [f"--setup-hook=mkdir -p $(dirname {preferences}); echo '{PIN}' >{preferences}"]
    command += [f"--customize-hook={hook}" for hook in (f"rm {preferences}", *hooks)]
    run_tool([*command, release, "-"], f"mmdebstrap could not make a {release} system", cwd=made, lines=5)
    (made / "lib").mkdir()
    (made / "modules").rename(made / "lib/modules")
    busybox = next(unpack(made, BUSYBOX).glob("**/bin/busybox"))
    make_boot_files(made, busybox, EARLY_MODULES, "systemd-init.sh")
    return made
