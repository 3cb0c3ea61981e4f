"""The states of a session with one peer, as data: `peer_session.py` works by it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.sansio.trace import MachineEnum


class SessionState(MachineEnum):
    NO_KEY = enum.auto()
    SYNCHRONISING = enum.auto()  # until both directions have found together, since start or new key
    CONNECTED = enum.auto()
    SYNCHRONISING_UNREACHABLE = enum.auto()
    UNREACHABLE = enum.auto()  # the peer does not answer


class SessionInput(MachineEnum):
    KEY = enum.auto()
    AGREED = enum.auto()
    SILENT = enum.auto()
    ANSWERED = enum.auto()


S, I = SessionState, SessionInput
SESSION_TABLE: Final[Mapping[tuple[SessionState, SessionInput], SessionState]] = {
    **{(state, I.KEY): S.SYNCHRONISING for state in S},
    (S.SYNCHRONISING, I.AGREED): S.CONNECTED,
    (S.CONNECTED, I.AGREED): S.CONNECTED,
    (S.SYNCHRONISING, I.SILENT): S.SYNCHRONISING_UNREACHABLE,
    (S.CONNECTED, I.SILENT): S.UNREACHABLE,
    (S.SYNCHRONISING_UNREACHABLE, I.ANSWERED): S.SYNCHRONISING,
    (S.UNREACHABLE, I.ANSWERED): S.CONNECTED,
}
AGREED: Final = frozenset((S.CONNECTED, S.UNREACHABLE))
UNREACHABLE: Final = frozenset((S.SYNCHRONISING_UNREACHABLE, S.UNREACHABLE))
