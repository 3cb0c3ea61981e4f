"""What every endpoint may tell its driver, whatever the protocol."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import field
from typing import Any, Generic, TypeVar

from bt_selfsecure.sansio.value import value

Record = TypeVar("Record")
Kept = tuple[Callable[..., Record], *tuple[Any, ...]]
"""A state that was kept: what makes its record, and of what. A tuple costs the least where nobody wants the record."""


def made(kept: Kept[Record]) -> Record:
    """Return the record of a state that was kept."""
    make, *parts = kept
    return make(*parts)


class Rejection(enum.Enum):
    """Says why a frame from the air changed nothing."""

    MALFORMED = "not a frame of ours"
    NOT_FOR_US = "of another establishment, profile or kind"
    UNAUTHENTIC = "not made with the key"
    REPLAY = "of a time that is over"
    IMPLAUSIBLE = "its number can't be"
    THROTTLED = "asked for too often (T_d)"
    FLOODED = "one response too many, unread"


@value
class FrameRejected:
    """A frame from the air was dropped; the endpoint's state is as before."""

    reason: Rejection
    detail: str = ""


@value
class StateChanged(Generic[Record]):
    """The state has changed: write `record`, together with what this tells and what was told since the last one; then
    call `persisted(token)`, which releases the frames that wait for it.

    A message that was received or delivered is told with the record that counts it, or before, so a driver that writes
    both in one transaction gets each exactly once. A later record replaces every earlier one. Where `sync` is false
    nothing waits: the driver may write lazily.
    """

    token: int
    _kept: Kept[Record] = field(repr=False)
    sync: bool

    @property
    def record(self) -> Record:
        """Return the record of the state as it was when this was told. It is made where it is asked for."""
        return made(self._kept)


@value
class Persist(StateChanged[Record]):
    """The state has changed, and there is nothing else to tell about it."""
