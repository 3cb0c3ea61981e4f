"""This computer's CPU, as Linux shows it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
IDENTITY: Final = re.compile(r"^(?:model name|flags)\s*:.*", re.MULTILINE)
WITH_KVM: Final = re.compile(r"^flags\s*:.* (vmx|svm)\b", re.MULTILINE)
"""In `CPUINFO`. Some cloud machines have a /dev/kvm without it, which takes an unchanged kernel hours."""


def has_kvm() -> bool:
    """Return whether this CPU can run another kernel beside ours (VT-x or AMD-V)."""
    return WITH_KVM.search(CPUINFO.read_text()) is not None


def identity() -> str:
    """Return a name for its model and features: a home may move to another computer, whose CPU can't do what this one
    can."""
    return hashlib.sha256("".join(IDENTITY.findall(CPUINFO.read_text())[:2]).encode()).hexdigest()[:12]
