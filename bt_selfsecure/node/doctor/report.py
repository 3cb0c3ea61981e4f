"""What a check finds, and how the checks are run."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_selfsecure.node.doctor.machine import Machine


class Verdict(enum.Enum):
    OK = "ok"
    WARNING = "warning"
    """The node works; something will hurt, or one bearer is out."""
    FAILURE = "failure"
    """The node can't do its work on this machine as it is."""
    NOT_SEEN = "not seen"
    """The check could not be made; the finding says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    verdict: Verdict
    text: str
    """What was seen, in a sentence or two."""
    remedy: str = ""
    """What to do about it, in one or two sentences; empty where nothing is to be done."""


class NotSeen(Exception):  # noqa: N818 - an outcome of a check, not a fault of the program
    """A check can't see what it looks at; the text says why."""


class Of(enum.Enum):
    """The nodes that a check is for."""

    RADIO = "those with an adapter"
    UDP = "those with udp"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's."""

    number: int
    name: str
    look: Callable[[Machine], Finding]
    of: Of = Of.RADIO


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    finding: Finding


def ok(text: str) -> Finding:
    return Finding(Verdict.OK, text)


def warning(text: str, remedy: str) -> Finding:
    return Finding(Verdict.WARNING, text, remedy)


def failure(text: str, remedy: str) -> Finding:
    return Finding(Verdict.FAILURE, text, remedy)


def examine(machine: Machine, checks: Sequence[Check]) -> Iterator[Result]:
    """Make one check after the other. What a check can't read is not seen; it never ends the rest."""
    for check in checks:
        try:
            finding = check.look(machine)
        except NotSeen as reason:
            finding = Finding(Verdict.NOT_SEEN, str(reason))
        except OSError as error:
            finding = Finding(Verdict.NOT_SEEN, f"{error.filename or 'the kernel'}: {error.strerror or error}")
        yield Result(check, finding)
