"""What runs a virtual Pi: its programs on this computer's CPU, or on one that QEMU emulates."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from bt_selfsecure.lab import uml

KVM: Final = Path("/dev/kvm")
CPUINFO: Final = Path("/proc/cpuinfo")
CPU_WITH_KVM: Final = re.compile(r"^flags\s*:.* (vmx|svm)\b", re.MULTILINE)
"""In `CPUINFO`. Some cloud machines have a /dev/kvm without it, which takes an unchanged kernel hours."""


class Runner(StrEnum):
    """From the best to what there is everywhere."""

    KVM = "kvm"
    """QEMU with the host's CPU, where /dev/kvm is."""
    UML = "uml"
    """Linux as a program: the host's CPU, without /dev/kvm; its kernel must be compiled first (uml.py)."""
    TCG = "tcg"
    """QEMU emulates a CPU, which is 15 to 25 times slower at Python."""


def best_runner(progress: Callable[[str], None]) -> Runner:
    """The first that works here and is there; says what would be faster."""
    can = CPU_WITH_KVM.search(CPUINFO.read_text()) is not None and KVM.exists()
    if can and os.access(KVM, os.R_OK | os.W_OK):
        return Runner.KVM
    if uml.find():
        return Runner.UML
    remedy = "sudo adduser $USER kvm, and log in anew" if can else "bt-selfsecure lab kernel, once"
    progress(f"emulating a CPU, which is slow; what helps: {remedy}")
    return Runner.TCG
