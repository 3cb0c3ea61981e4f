"""Frames and timers by table: what is named there is there, and nothing that takes a frame stands beside them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bt_selfsecure.protocols.haoxiao.frames import Kind
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.tables import LISTENER_FRAMES
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import INITIATOR_FRAMES, INITIATOR_TIMERS
from bt_selfsecure.protocols.haoxiao.receiving import RECEIVER_FRAMES, Receiver
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import RESPONDER_FRAMES, RESPONDER_TIMERS
from bt_selfsecure.protocols.haoxiao.sending import SENDER_FRAMES, SENDER_TIMERS, Sender

MACHINES: dict[str, tuple[Any, Any, type]] = {
    "initiator": (INITIATOR_FRAMES, INITIATOR_TIMERS, Initiator),
    "responder": (RESPONDER_FRAMES, RESPONDER_TIMERS, Responder),
    "sender": (SENDER_FRAMES, SENDER_TIMERS, Sender),
    "receiver": (RECEIVER_FRAMES, {}, Receiver),
    "group listener": (LISTENER_FRAMES, {}, GroupListener),
}


@pytest.mark.parametrize("who", MACHINES)
def test_every_handler_in_a_table_is_a_method_and_every_method_for_frames_is_in_a_table(who: str) -> None:
    frames, timers, machine = MACHINES[who]
    named = {row.handler for row in frames.values()} | set(timers.values())
    assert [name for name in named if not callable(getattr(machine, name, None))] == []
    receiving = {name for name in vars(machine) if re.match(r"_?(receive|overhear)_", name)}
    assert receiving - {"receive_frame", "receive_letter", "_receive_request_again", "_receive_again"} <= named


def test_every_kind_is_taken_by_somebody() -> None:
    assert {kind for frames, *_ in MACHINES.values() for kind in frames} == set(Kind)
