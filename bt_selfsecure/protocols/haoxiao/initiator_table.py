"""Lists the states of an initiator, what moves it from one to the next, and which handler takes what."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Kind
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, not_for_us, replayed
from bt_selfsecure.sansio.trace import MachineEnum


class InitiatorState(MachineEnum):
    NEW = enum.auto()
    REQUESTING = enum.auto()  # T_H runs
    RESTING = enum.auto()  # T_W runs
    BURSTING = enum.auto()
    COLLECTING = enum.auto()  # T_1, then 2 T_2
    CONFIRMING = enum.auto()  # T_3, then the waiting phase
    ESTABLISHED = enum.auto()
    FAILED = enum.auto()


class InitiatorInput(MachineEnum):
    START = enum.auto()
    T_H_OVER = enum.auto()
    T_W_OVER = enum.auto()
    ACCEPTED = enum.auto()
    BURST_SENT = enum.auto()
    TARGET_NOT_YET = enum.auto()
    RESPONDED = enum.auto()
    ENDED = enum.auto()
    FAILED = enum.auto()


S, I = InitiatorState, InitiatorInput
ASKING: Final = frozenset({S.REQUESTING, S.RESTING})
OVER: Final = frozenset({S.ESTABLISHED, S.FAILED})
INITIATOR_TABLE: Final[Mapping[tuple[InitiatorState, InitiatorInput], InitiatorState]] = {
    (S.NEW, I.START): S.REQUESTING,
    (S.REQUESTING, I.T_H_OVER): S.RESTING,
    (S.RESTING, I.T_W_OVER): S.REQUESTING,
    (S.REQUESTING, I.ACCEPTED): S.BURSTING,
    (S.RESTING, I.ACCEPTED): S.BURSTING,
    (S.BURSTING, I.BURST_SENT): S.COLLECTING,
    (S.COLLECTING, I.TARGET_NOT_YET): S.BURSTING,
    (S.COLLECTING, I.RESPONDED): S.CONFIRMING,
    (S.CONFIRMING, I.ENDED): S.ESTABLISHED,
    **{(state, I.FAILED): S.FAILED for state in S if state not in OVER},
}
_OVERHEARD: Final = FrameRow(set(S) - OVER - {S.NEW}, "_overhear_burst", not_for_us("a burst packet"))
INITIATOR_FRAMES: Final[FrameTable[Kind, InitiatorState]] = {
    Kind.ACCEPT: FrameRow(ASKING, "_receive_accept", replayed("an accept after its time")),
    Kind.RAND: _OVERHEARD,
    Kind.RAND_COMPACT: _OVERHEARD,
    Kind.RESPONSE: FrameRow({S.COLLECTING}, "_receive_response", replayed("a response that is not waited for")),
    Kind.END: FrameRow({S.CONFIRMING}, "_receive_end", not_for_us("an end that is not waited for")),
}
INITIATOR_TIMERS: Final[Mapping[InitiatorState, str]] = {
    S.REQUESTING: "_t_h_over",
    S.RESTING: "_t_w_over",
    S.COLLECTING: "_responses_are_in",
    S.CONFIRMING: "_waiting_over",
}
