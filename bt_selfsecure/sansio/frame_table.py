"""Which frames a machine takes, in which states, and by which method: data beside the table of transitions."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.trace import Machine, MachineEnum

State = TypeVar("State", bound=MachineEnum)
Kind = TypeVar("Kind")


class FrameRow(NamedTuple, Generic[State]):
    """Says how frames of one kind are taken."""

    states: AbstractSet[State]
    handler: str
    """Name of the method that takes the frame, with the time."""
    otherwise: FrameRejected
    """What is told of such a frame in any other state."""


FrameTable = Mapping[Kind, FrameRow[State]]


class Taker(Protocol):
    """Has a machine, and methods that take frames."""

    @property
    def _machine(self) -> Machine[Any, Any]: ...


def dispatch(row: FrameRow[Any] | None, taker: Taker, frame: Any, now: float, events: EventQueue[Any]) -> None:
    """Give the frame to the method that the row of its kind names, if the taker is in a state of it; else reject it."""
    if row is None:
        return events.reject(Rejection.NOT_FOR_US, frame.kind.name)
    states, handler, otherwise = row
    if taker._machine.state not in states:
        return events.reject(otherwise.reason, otherwise.detail)
    getattr(taker, handler)(frame, now)
    return None


def replayed(what: str) -> FrameRejected:
    """Return what is told of a frame whose time is over."""
    return FrameRejected(Rejection.REPLAY, what)


def not_for_us(what: str) -> FrameRejected:
    """Return what is told of a frame that nobody here can have been sent."""
    return FrameRejected(Rejection.NOT_FOR_US, what)
