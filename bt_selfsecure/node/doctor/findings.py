"""What a check finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bt_selfsecure.errors import BtSelfSecureError


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
    """Says how one check ended, and what to do about it."""

    verdict: Verdict
    text: str
    """What was seen, in a sentence or two."""
    remedy: str = ""
    """What to do about it, in one or two sentences; empty where nothing is to be done."""


class NotSeen(BtSelfSecureError):  # noqa: N818 - an outcome of a check, not a fault of the program
    """A check can't see what it looks at; the text says why."""


def ok(text: str) -> Finding:
    return Finding(Verdict.OK, text)


def warning(text: str, remedy: str) -> Finding:
    return Finding(Verdict.WARNING, text, remedy)


def failure(text: str, remedy: str) -> Finding:
    return Finding(Verdict.FAILURE, text, remedy)
