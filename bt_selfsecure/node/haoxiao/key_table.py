"""The states of agreeing on a key with one peer, as data: `key_agreement.py` works by it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.sansio.trace import MachineEnum


class KeyState(MachineEnum):
    IDLE = enum.auto()
    DIALLING = enum.auto()  # the establishment's own bearer
    GATHERING = enum.auto()  # for a burst that several peers share
    INITIATING = enum.auto()
    RESPONDING = enum.auto()
    RESPONDING_DIALLING = enum.auto()  # the peer has asked while this end still dials


class KeyInput(MachineEnum):
    DIAL = enum.auto()
    DIAL_OVER = enum.auto()
    GATHER = enum.auto()
    START = enum.auto()
    RESPOND = enum.auto()
    OVER = enum.auto()


S, I = KeyState, KeyInput
KEY_TABLE: Final[Mapping[tuple[KeyState, KeyInput], KeyState]] = {
    (S.IDLE, I.DIAL): S.DIALLING,
    (S.IDLE, I.START): S.INITIATING,
    (S.IDLE, I.GATHER): S.GATHERING,
    (S.IDLE, I.RESPOND): S.RESPONDING,
    (S.DIALLING, I.DIAL_OVER): S.IDLE,
    (S.DIALLING, I.RESPOND): S.RESPONDING_DIALLING,
    (S.GATHERING, I.START): S.INITIATING,
    (S.GATHERING, I.RESPOND): S.RESPONDING,
    (S.GATHERING, I.OVER): S.IDLE,
    (S.INITIATING, I.OVER): S.IDLE,
    (S.RESPONDING, I.OVER): S.IDLE,
    (S.RESPONDING_DIALLING, I.OVER): S.DIALLING,
    (S.RESPONDING_DIALLING, I.DIAL_OVER): S.RESPONDING,
}
RESPONDING: Final = frozenset((S.RESPONDING, S.RESPONDING_DIALLING))
