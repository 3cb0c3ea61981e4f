"""What runs a virtual Pi: its programs on this computer's CPU, or on one that QEMU emulates."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

from bt_selfsecure.lab import cpu, uml

KVM: Final = Path("/dev/kvm")


class Runner(StrEnum):
    """Names the runners, from the best to what there is everywhere."""

    KVM = "kvm"
    """QEMU with the host's CPU, where /dev/kvm is."""
    UML = "uml"
    """Linux as a program: the host's CPU, without /dev/kvm; its kernel must be compiled first (uml.py)."""
    TCG = "tcg"
    """QEMU emulates a CPU, which is 15 to 25 times slower at Python."""


def best_runner(progress: Callable[[str], None]) -> Runner:
    """Return the first that works here; says why those before it do not."""
    for runner in (Runner.KVM, Runner.UML):
        why = obstacle(runner, progress)
        if not why:
            return runner
        progress(f"not {runner}: {why}")
    progress("tcg it is: an emulated CPU, slower than a Pi's")
    return Runner.TCG


def obstacle(runner: Runner, progress: Callable[[str], None]) -> str:
    """Return why it runs no machines here, with the remedy if there is one; empty where it does."""
    if runner is Runner.KVM:
        if not KVM.exists():
            return f"there is no {KVM}"
        if not cpu.has_kvm():
            return f"{KVM} is here, but the CPU shows neither vmx nor svm"
        if not os.access(KVM, os.R_OK | os.W_OK):
            return f"{KVM} is not yours: sudo adduser $USER kvm, and log in anew"
    if runner is Runner.UML:
        kernel = uml.find()
        if not kernel:
            return "no kernel is compiled: bt-selfsecure lab kernel does it, once, in 4 to 15 minutes"
        why = uml.obstacle(kernel, progress)
        return why and f"{why}; bt-selfsecure lab kernel tries it again"
    return ""
