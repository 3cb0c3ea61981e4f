"""How the checks are run."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bt_selfsecure.node.doctor.findings import Finding, NotSeen, Verdict
from bt_selfsecure.node.doctor.host_system import HostSystem


class Of(enum.Enum):
    """Says which nodes a check is for."""

    RADIO = "those with an adapter"
    UDP = "those with udp"
    OTHERS = "those that run, or reach a peer through others"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Check:
    """Stands for one line of the doctor's: `look` examines the machine, and may raise `NotSeen` or OSError."""

    number: int
    name: str
    look: Callable[[HostSystem], Finding]
    of: Of = Of.RADIO


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    finding: Finding


def examine(system: HostSystem, checks: Sequence[Check]) -> Iterator[Result]:
    """Make one check after the other. What a check can't read is not seen; it never ends the rest."""
    for check in checks:
        try:
            finding = check.look(system)
        except NotSeen as reason:
            finding = Finding(Verdict.NOT_SEEN, str(reason))
        except OSError as error:
            finding = Finding(Verdict.NOT_SEEN, f"{error.filename or 'the kernel'}: {error.strerror or error}")
        yield Result(check, finding)
