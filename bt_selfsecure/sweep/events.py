"""What goes into a sweep's machine, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from bt_selfsecure.sweep.orders import Answer, Listen, PacketsSent, Report, RunReception, SendPackets
from bt_selfsecure.sweep.plan import Place, Roles, Run

# --- what the person wants; each names its place, so that none is carried out elsewhere -------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """Says that the nodes stand where the prompt says: start."""

    place: Place


@dataclass(frozen=True, slots=True)
class Stop:
    """Interrupts: back to the prompt of this place."""

    place: Place


@dataclass(frozen=True, slots=True)
class Skip:
    """This leaves the rest of this place out for now."""

    place: Place


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Do not skip this place after all."""

    place: Place


@dataclass(frozen=True, slots=True)
class Redo:
    """The runs at this place are no good: withdraw them and do them again."""

    place: Place


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do, and nothing is to be done again."""


Want = Placed | Stop | Skip | TakeBack | Redo | End

# --- what happened ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """This is a node's answer to an order."""

    node: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class RunStored:
    """The record of this run is on disk."""

    run: Run


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Says that what was stored of this place is marked as withdrawn, on disk."""

    place: Place


Input = Want | Answered | RunStored | Withdrawn

# --- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prompt:
    """The person is asked to move the nodes, and for `Placed`."""

    place: Place
    roles: Roles
    trouble: str
    """Why the person is asked again; empty where this is the first time."""


@dataclass(frozen=True, slots=True)
class Give:
    """Give a node an order; hand its answer to `handle`."""

    node: str
    order: Listen | SendPackets | Report


@dataclass(frozen=True, slots=True)
class Record:
    """Write a whole run down, in one transaction; then `RunStored`."""

    run: Run
    roles: Roles
    began: float
    sent: PacketsSent
    receptions: dict[str, RunReception]
    """By receiver."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Asks for what was stored of this place to be marked as withdrawn; `Withdrawn` answers it."""

    place: Place


@dataclass(frozen=True, slots=True)
class Tell:
    """This is for the person's eyes: something did not work, or what happens next."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to do but what was skipped: the person is asked for `End`."""


Effect = Prompt | Give | Record | Withdraw | Tell | Finished
