"""Errors that a person reads: one line that names the fault, and the remedy."""

from __future__ import annotations


class BtSelfSecureError(Exception):
    """Is the base of every error that this package raises on purpose. Its text is what the user reads."""


class UsageError(BtSelfSecureError):
    """The caller's input can't be used: the text names what is wrong and what would be right. The CLI exits with 2."""


class PeerError(BtSelfSecureError):
    """What came from the other end, or from a stranger, is not what it should be: never a fault of this program."""


class UnreadableError(BtSelfSecureError, ValueError):
    """A text is no value of the kind that is asked for. A `ValueError` too, for who catches what `int` says with it."""


class LocalError(BtSelfSecureError):
    """The program drives an endpoint against its contract (a bug in the driver, never the peer's fault)."""
