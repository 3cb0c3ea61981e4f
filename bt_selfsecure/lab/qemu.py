"""QEMU runs a virtual Pi, on the host's CPU (KVM) or on one that it emulates (TCG)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bt_selfsecure.lab.kernel import Kernel
from bt_selfsecure.lab.system import SYSTEMD_OPTIONS

DEVICES: Final = """\
UART=/dev/hvc0 SHELL_LINE=/dev/hvc1 DISK=/dev/vda
jobs=$(grep -lx jobs /sys/class/virtio-ports/*/name)
JOBS=/dev/$(basename "$(dirname "$jobs")")
"""
"""For the scripts inside."""


def command(kernel: Kernel, folder: Path, console: Path, uart: Path, megabytes: int, *, with_kvm: bool) -> list[str]:
    """Return the command that starts a machine in `folder`. -cpu Nehalem: the oldest with SSE4.2, so that TCG need not
    emulate more; norandmaps: TCG keeps what it has translated by address, so a program is translated once and not
    whenever it starts (for Python, 10 s); vmgenid has the kernel draw new random numbers where it finds itself in
    another machine than before."""
    share = "local,security_model=none,multidevs=remap"
    options = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off norandmaps"
    shares = [
        *("-virtfs", f"{share},path=/,mount_tag=root,readonly=on"),
        *("-virtfs", f"{share},path={_escape(kernel.modules)},mount_tag=modules,readonly=on"),
    ]
    if kernel.disk:
        options, shares = " ".join((options, *SYSTEMD_OPTIONS, f"systemd.hostname={folder.name}")), []
    # The kernel ends QEMU with us, however we end.
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-name", folder.name),
        *("-M", "q35", "-smp", "1", "-m", str(megabytes)),
        *(("-accel", "kvm", "-cpu", "host") if with_kvm else ("-accel", "tcg", "-cpu", "Nehalem")),
        *("-display", "none", "-nodefaults", "-monitor", "none", "-no-reboot"),
        *("-kernel", str(kernel.image), "-initrd", str(kernel.initrd)),
        *("-append", options, "-device", "vmgenid,guid=auto"),
        *("-serial", f"file:{_escape(console)}"),
        *shares,
        *("-virtfs", f"{share},path={_escape(folder)},mount_tag=lab"),
        *("-drive", f"if=virtio,format=raw,cache=unsafe,file={_escape(folder.with_suffix('.disk'))}"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=uart,path={_escape(uart)}", "-device", "virtconsole,chardev=uart"),
        *("-chardev", f"socket,id=shell,path={_escape(folder.with_suffix('.shell'))},server=on,wait=off"),
        *("-device", "virtconsole,chardev=shell"),
        *("-chardev", f"socket,id=jobs,path={_escape(folder.with_suffix('.jobs'))}"),
        *("-device", "virtserialport,chardev=jobs,name=jobs"),
    ]


def _escape(path: Path) -> str:
    """QEMU's options take a doubled comma for one."""
    return str(path).replace(",", ",,")
