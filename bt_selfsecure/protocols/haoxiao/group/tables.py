"""The states of a group, as data: how far a member is at the owner, and what a member waits for."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Kind
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, replayed
from bt_selfsecure.sansio.trace import MachineEnum


class MemberState(MachineEnum):
    """Says at the owner how a member stands to the epoch."""

    INVITED = enum.auto()  # its session has the welcome; what is sent meanwhile goes there too
    CURRENT = enum.auto()  # it has reported in this epoch, and hears broadcasts
    DEAF = enum.auto()  # it hears no broadcasts, as its radio is at work: its session gets what is sent
    AWAY = enum.auto()  # there was no room for it: it joins with the next epoch


class MemberInput(MachineEnum):
    EPOCH = enum.auto()
    REPORTED = enum.auto()
    DEAF = enum.auto()
    NO_ROOM = enum.auto()


S, I = MemberState, MemberInput
MEMBER_TABLE: Final[Mapping[tuple[MemberState, MemberInput], MemberState]] = {
    **{(state, I.EPOCH): S.INVITED for state in S},
    **{(state, I.NO_ROOM): S.AWAY for state in S},
    (S.INVITED, I.REPORTED): S.CURRENT,
    (S.DEAF, I.REPORTED): S.CURRENT,
    **{(state, I.DEAF): S.DEAF for state in (S.INVITED, S.CURRENT, S.DEAF)},
}


class ListenerState(MachineEnum):
    """Says what a member waits for."""

    LISTENING = enum.auto()
    LOST = enum.auto()  # it can't follow: for the welcome to the next epoch
    OVER = enum.auto()  # it is no member any more


class ListenerInput(MachineEnum):
    WELCOME = enum.auto()
    ACCEPTED = enum.auto()
    GAP = enum.auto()
    END = enum.auto()


_L, _J = ListenerState, ListenerInput
LISTENER_TABLE: Final[Mapping[tuple[ListenerState, ListenerInput], ListenerState]] = {
    (_L.LISTENING, _J.WELCOME): _L.LISTENING,
    (_L.LOST, _J.WELCOME): _L.LISTENING,
    (_L.LISTENING, _J.ACCEPTED): _L.LISTENING,
    (_L.LISTENING, _J.GAP): _L.LOST,
    (_L.LISTENING, _J.END): _L.OVER,
    (_L.LOST, _J.END): _L.OVER,
}
LISTENER_FRAMES: Final[FrameTable[Kind, ListenerState]] = {
    Kind.GROUP_FRAGMENT: FrameRow({_L.LISTENING}, "_receive_fragment", replayed("a fragment that is not waited for")),
}
