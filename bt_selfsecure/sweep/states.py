"""The states of a sweep, and what leads from one to the next."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.Enum):
    ASKING = "waiting for the nodes to be put in place"
    COUNTING = "counting down"
    PREPARING = "telling the receivers to listen"
    SENDING = "packets are in the air"
    COLLECTING = "asking what was heard"
    STORING = "writing the run down"
    WITHDRAWING = "marking runs as withdrawn"
    WAITING = "trying again soon"
    DONE = "nothing is left to do"
    OVER = "the sweep has ended"


BUSY: Final = (State.PREPARING, State.SENDING, State.COLLECTING)
"""Nodes are at work for us; in every other state whoever still answers is late."""
WRITING: Final = (State.STORING, State.WITHDRAWING)
"""What a person wants waits for the file."""
LIVE: Final = tuple(state for state in State if state is not State.OVER)
"""Something may still come."""


class Cause(enum.Enum):
    """Says why the state changes."""

    PLACED = enum.auto()
    TIME = enum.auto()
    ALL_LISTEN = enum.auto()
    SENT = enum.auto()
    ALL_REPORTED = enum.auto()
    NEXT_RUN = enum.auto()
    NEXT_PLACE = enum.auto()
    TROUBLE = enum.auto()
    HELP_NEEDED = enum.auto()
    REDO = enum.auto()
    FINISHED = enum.auto()
    ENDED = enum.auto()


TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = {
    (State.ASKING, Cause.PLACED): State.COUNTING,
    (State.COUNTING, Cause.TIME): State.PREPARING,
    (State.PREPARING, Cause.ALL_LISTEN): State.SENDING,
    (State.SENDING, Cause.SENT): State.COLLECTING,
    (State.COLLECTING, Cause.ALL_REPORTED): State.STORING,
    (State.STORING, Cause.NEXT_RUN): State.PREPARING,
    (State.WAITING, Cause.TIME): State.PREPARING,
    **{(busy, Cause.TROUBLE): State.WAITING for busy in BUSY},
    **{(busy, Cause.HELP_NEEDED): State.ASKING for busy in BUSY},
    # The person may interrupt whatever goes on, but for what is just being written down.
    **{(state, Cause.REDO): State.WITHDRAWING for state in LIVE if state not in WRITING},
    **{(state, Cause.NEXT_PLACE): State.ASKING for state in LIVE},
    **{(state, Cause.FINISHED): State.DONE for state in LIVE},
    (State.DONE, Cause.ENDED): State.OVER,
}
