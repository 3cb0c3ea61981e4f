"""What the profile `paper` does, to the letter, and what it lets through: docs/protocols/bootstrap.md names these."""

from __future__ import annotations

import pytest
from bootstrap_ends import CONTROLLER, IK, NODE_ID, OTHER, PaperEnds

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.events import NodeJoined, NodeRefused, Refusal
from bt_selfsecure.protocols.bootstrap.keys import ecb_open, paper_psk
from bt_selfsecure.sansio.events import Rejection

RECEIVERS = ("sbr", "sbs", "sbr", "sbi", "sbr")


def up_to(number: int) -> tuple[PaperEnds, list[bytes]]:
    """Return ends before this flight is given to whom it is for, and the flights up to it."""
    ends = PaperEnds()
    ends.sbi.start(0.0)
    tape = ends.sbi.frames_to_send(0.0)
    for name in RECEIVERS[: number - 1]:
        tape += ends.give(name, tape[-1])
    return ends, tape


def flipped(data: bytes, bit: int) -> bytes:
    return bytes(octet ^ (1 << bit % 8 if at == bit // 8 else 0) for at, octet in enumerate(data))


def taken(number: int) -> set[int]:
    """Return the bits of a flight that may be flipped without its receiver's noticing."""
    _, tape = up_to(number)
    found = set()
    for bit in range(8 * len(tape[-1])):
        ends, _ = up_to(number)
        ends.give(RECEIVERS[number - 1], flipped(tape[-1], bit))
        end = getattr(ends, RECEIVERS[number - 1])
        if not sum(end.rejections.values()):
            found.add(bit)
    return found


def test_all_three_have_one_psk() -> None:
    ends = PaperEnds()
    tape = ends.join()
    assert ends.sbi.key == ends.sbs.nodes[NODE_ID] == paper_psk(IK, tape[0][8:], ecb_open(IK, tape[3][8:])[16:])
    told = [event for event in iter(ends.sbr.next_event, None) if isinstance(event, NodeJoined)]
    assert [event.psk for event in told] == [ends.sbi.key]


@pytest.mark.parametrize("number", [2, 3, 5])
def test_in_paper_any_flipped_bit_of_flights_2_3_and_5_is_refused(number: int) -> None:
    assert taken(number) == set()


def test_in_paper_a_flipped_bit_of_flight_1_is_taken_and_parts_node_and_network() -> None:
    """Nothing proves it: the server makes a PSK of another RN_i than the node's."""
    assert taken(1) == set(range(8 * 24))
    ends, tape = up_to(1)
    ends.give("sbs", *ends.give("sbr", flipped(tape[0], 100)))
    assert ends.sbs.nodes[NODE_ID] != ends.sbi.key == IK


def test_in_paper_a_flipped_bit_of_tid_or_rn_c_in_flight_4_is_taken() -> None:
    """Only RN_i in it is checked: the node has a PSK then that nobody else has."""
    bits = taken(4)
    assert bits == set(range(8 * 8)) | set(range(8 * 24, 8 * 40))
    ends, tape = up_to(4)
    (flight5,) = ends.give("sbi", flipped(tape[-1], 8 * 30))
    assert ends.sbi.key not in (IK, ends.sbs.nodes[NODE_ID])
    assert ends.give("sbr", flight5) == []
    assert ends.sbr.rejections[Rejection.UNAUTHENTIC] == 1


def test_in_paper_a_lost_flight_4_parts_node_and_network_for_ever() -> None:
    ends, _ = up_to(4)
    assert ends.sbs.nodes[NODE_ID] != ends.sbi.key == IK
    ends.sbi.start(0.0)
    flight = ends.sbi.frames_to_send(0.0)
    for name in RECEIVERS[:3]:
        flight = ends.give(name, *flight)
    assert ends.give("sbi", *flight) == []
    assert ends.sbi.rejections[Rejection.UNAUTHENTIC] == 1


def test_in_paper_the_time_is_checked_by_the_server_alone() -> None:
    ends, tape = up_to(2)
    ends.clock += limits.WINDOW_S + 1
    assert ends.give("sbs", tape[-1]) == []
    told = [event for event in iter(ends.sbs.next_event, None) if isinstance(event, NodeRefused)]
    assert [event.reason for event in told] == [Refusal.CLOCK]


def test_in_paper_a_node_that_nobody_knows_is_refused() -> None:
    ends, tape = up_to(2)
    ends.sbs.nodes.clear()
    assert ends.give("sbs", tape[-1]) == []
    told = [event for event in iter(ends.sbs.next_event, None) if isinstance(event, NodeRefused)]
    assert [event.reason for event in told] == [Refusal.UNKNOWN_NODE]
    assert {CONTROLLER.controller_id, OTHER.controller_id} > {told[0].controller_id}


def test_a_node_joins_again_under_its_psk_as_the_paper_has_it() -> None:
    ends = PaperEnds()
    ends.join()
    first = ends.sbi.key
    ends.join()
    assert ends.sbi.key == ends.sbs.nodes[NODE_ID] != first
