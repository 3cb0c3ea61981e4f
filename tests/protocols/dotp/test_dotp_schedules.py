"""Any schedule of sends, losses, duplicates, crossings, delayed writes and crashes: no key is used twice, and nothing
is read under a wrong one."""

from __future__ import annotations

import random

import pytest
from amounts import part_of
from dotp_pair import End, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.protocols.dotp.keys import Policy

KINDS = [(None, 256), (Policy.PER_IO_NRPRNG, 64), (Policy.PER_IO_NRPRNG, 96), (Policy.PER_IO_PRNG, 64)]
SCHEDULES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255)), min_size=30, max_size=80)


class World:
    """The two ends, what is in the air each way, and what was sent under which number."""

    def __init__(self, policy: Policy | None, bits: int) -> None:
        self.ends = pair(policy, bits)
        self.block = bits // 8 if policy else 1 << 16
        self.air: tuple[list[bytes], list[bytes]] = ([], [])
        self.sent: tuple[dict[int, set[bytes]], dict[int, set[bytes]]] = ({}, {})
        self.on_air: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
        self.texts = 0

    def step(self, what: int, which: int) -> None:
        side = which & 1
        end, air = self.ends[side], self.air[1 - side]
        match what:
            case 0 | 1 | 2 | 3:
                self.texts += 1
                text = b"%d " % self.texts * (1 + which % 7)
                self.sent[side].setdefault(end.dotp.send(text, 0.0), set()).add(text)
                if what < 3:
                    end.write()
            case 4 | 5 | 6 | 7 if air:  # comes; out of order
                end.dotp.receive_frame(air.pop(which % len(air)), 0.0)
                end.listen()
                if what < 7:
                    end.write()
            case 8 if air:  # comes, and will again
                end.dotp.receive_frame(air[which % len(air)], 0.0)
                end.write()
            case 9 if air:  # is lost
                air.pop(which % len(air))
            case 10:
                end.restart()
            case _:
                end.write()
        self.let_out(side, end)
        self.judge()

    def let_out(self, side: int, end: End) -> None:
        """Carry what leaves, also where something is not written yet."""
        for datagram in end.dotp.frames_to_send(0.0):
            number = int.from_bytes(datagram[:4])
            for key in range(number, number + -(-(len(datagram) - 4) // self.block)):
                assert key not in self.on_air[side], "a key was used twice"
                self.on_air[side][key] = datagram
            self.air[side].append(datagram)

    def judge(self) -> None:
        for side, end in enumerate(self.ends):
            numbers = [event.number for event in end.acted]
            assert len(set(numbers)) == len(numbers), "a message was acted on twice"
            for event in end.acted:
                assert event.message in self.sent[1 - side][event.number], "a message was read under a wrong key"


def run(kind: tuple[Policy | None, int], schedule: list[tuple[int, int]]) -> None:
    world = World(*kind)
    for what, which in schedule:
        world.step(what, which)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=part_of(60))
@given(schedule=SCHEDULES)
def test_no_key_is_used_twice_and_nothing_is_read_under_a_wrong_one(
    kind: tuple[Policy | None, int], schedule: list[tuple[int, int]]
) -> None:
    run(kind, schedule)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=6000)
@given(schedule=SCHEDULES)
def test_a_million_steps_use_no_key_twice(kind: tuple[Policy | None, int], schedule: list[tuple[int, int]]) -> None:
    run(kind, schedule)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_repeated_until_it_comes_is_not_lost_at_30_percent_loss(kind: tuple[Policy | None, int]) -> None:
    """As CoAP does it: a message is repeated, under a new number, until its answer comes."""

    dice = random.Random(30)
    client, server = pair(*kind)
    for number in range(200):
        request, answered = b"GET %d" % number, False
        while not answered:
            datagram = client.send(request)
            for _ in range(dice.choice((0, 1, 1, 2))):
                for got in server.take(datagram):
                    assert got == request
                    reply = server.send(b"2.05 " + got)
                    if dice.random() > 0.3:
                        answered |= client.take(reply) == [b"2.05 " + request]
