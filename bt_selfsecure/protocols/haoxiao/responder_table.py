"""Lists the states of a responder, what moves it from one to the next, and which handler takes what."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Kind
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, not_for_us, replayed
from bt_selfsecure.sansio.trace import MachineEnum


class ResponderState(MachineEnum):
    IDLE = enum.auto()
    ACCEPTED = enum.auto()
    COLLECTING = enum.auto()  # 2 T_1 runs
    RESPONDED = enum.auto()  # 2 T_2 runs
    AWAITING_ACKNOWLEDGE = enum.auto()  # 2 T_3 runs
    ESTABLISHED = enum.auto()
    CLOSED = enum.auto()


class ResponderInput(MachineEnum):
    REQUEST = enum.auto()
    FIRST_PACKET = enum.auto()
    BURST_OVER = enum.auto()
    BURST_GOES_ON = enum.auto()
    T_2_OVER = enum.auto()
    ACKNOWLEDGED = enum.auto()
    FAILED = enum.auto()
    CLOSE = enum.auto()


S, I = ResponderState, ResponderInput
RESPONDER_TABLE: Final[Mapping[tuple[ResponderState, ResponderInput], ResponderState]] = {
    (S.IDLE, I.REQUEST): S.ACCEPTED,
    (S.ACCEPTED, I.REQUEST): S.ACCEPTED,
    (S.ESTABLISHED, I.REQUEST): S.ACCEPTED,
    (S.ACCEPTED, I.FIRST_PACKET): S.COLLECTING,
    (S.COLLECTING, I.BURST_OVER): S.RESPONDED,
    (S.RESPONDED, I.BURST_GOES_ON): S.COLLECTING,
    (S.AWAITING_ACKNOWLEDGE, I.BURST_GOES_ON): S.COLLECTING,
    (S.RESPONDED, I.T_2_OVER): S.AWAITING_ACKNOWLEDGE,
    (S.RESPONDED, I.ACKNOWLEDGED): S.ESTABLISHED,
    (S.AWAITING_ACKNOWLEDGE, I.ACKNOWLEDGED): S.ESTABLISHED,
    **{(state, I.FAILED): S.IDLE for state in S if state not in (S.IDLE, S.ESTABLISHED, S.CLOSED)},
    **{(state, I.CLOSE): S.CLOSED for state in (S.IDLE, S.ESTABLISHED, S.CLOSED)},
}
_RESPONDED: Final = frozenset({S.RESPONDED, S.AWAITING_ACKNOWLEDGE})
_BURST: Final = FrameRow({S.ACCEPTED, S.COLLECTING, *_RESPONDED}, "_receive_burst", not_for_us("a burst packet"))
RESPONDER_FRAMES: Final[FrameTable[Kind, ResponderState]] = {
    Kind.REQUEST: FrameRow(set(S) - {S.CLOSED}, "_receive_request", replayed("a request")),
    Kind.RAND: _BURST,
    Kind.RAND_COMPACT: _BURST,
    Kind.RAND_LIST: FrameRow({S.ACCEPTED, S.COLLECTING}, "_receive_list", not_for_us("a list of burst packets")),
    Kind.ACKNOWLEDGE: FrameRow(
        {*_RESPONDED, S.ESTABLISHED}, "_receive_acknowledge", replayed("an acknowledgement out of its time")
    ),
}
RESPONDER_TIMERS: Final[Mapping[ResponderState, str]] = {
    S.ACCEPTED: "_no_burst",
    S.COLLECTING: "_burst_over",
    S.RESPONDED: "_t_2_over",
    S.AWAITING_ACKNOWLEDGE: "_t_3_over",
}
