"""Sessions through relays that drop, repeat, reorder, change and invent, and nodes that are killed: nothing is lost,
nothing comes twice.

    SCHEDULES=100000 pytest -m long tests/protocols/haoxiao/test_relay_schedules.py        and a million frames
"""

from __future__ import annotations

import random

import pytest
from fuzzing import mutated, weight
from many_schedules import failures, run_many
from relay_network import ANY, A, B, C, Network, between, line
from relay_world import PLACES, RelayWorld, run_schedule

from bt_selfsecure.protocols.haoxiao.relay import RelayEndpoint
from bt_selfsecure.protocols.haoxiao.relay_events import RelayDatagram
from bt_selfsecure.protocols.haoxiao.relay_frames import decode, encode
from bt_selfsecure.protocols.haoxiao.session_config import Durability

MOST_WEIGHT = 60_000
"""Bytes and elements of a relay that carries as much as it may: circuits, ways and what waits to be told."""


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_messages_come_once_and_in_order_through_honest_relays(place: int) -> None:
    world = RelayWorld(place, Durability.EVERY_MESSAGE, seed=place)
    world.dial(0)
    for _ in range(20):
        world.say(0)
        world.say(1)
    world.heal()
    assert len(world.ends[1].inbox) == len(world.ends[0].inbox) == 21


def test_nothing_is_lost_or_twice_through_malicious_relays() -> None:
    assert failures(run_schedule, 0, 300) == []


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_nothing_is_lost_or_twice_in_many_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    which, told = run_many(run_schedule, 20_000)
    with capsys.disabled():
        print(f"\n  {which}: {len(told)} failed", end=" ")
    assert told == []


# --- frames of any sort -----------------------------------------------------------------------------------------------


def fuzz(count: int, seed: int) -> None:
    """So many changed frames come from both neighbours of a relay, and then it works as before."""
    rng = random.Random(seed)
    network = Network(line(A, B, C), between(A, C), seed=seed, max_links=8, queue_bytes=4000)
    seen: list[bytes] = []

    def watched(node: bytes) -> None:
        put_out = network.nodes[node].frames_to_send

        def frames_to_send(now: float) -> list[tuple[bytes, bytes]]:
            taken = put_out(now)
            seen.extend(data for _, data in taken)
            del seen[:-200]
            return taken

        network.nodes[node].frames_to_send = frames_to_send  # type: ignore[method-assign]

    for node in (A, B, C):
        watched(node)
    link = network.dial(A, C)
    for number in range(count):
        if number % 50 == 0:
            network.pass_time(rng.choice((0.1, 1, 40)))
            network.nodes[A].links.close(C, link, network.now)  # as a node does with the one before
            network.settle(A)
            link = network.dial(A, C)
            network.run()
            network.send(A, C, link, rng.randbytes(30))
            network.run()
            for node in (A, B, C):
                network.take(node)
                assert weight(network.nodes[node], type(network.configs[node]), random.Random) < MOST_WEIGHT
        source = rng.choice((A, C))
        node = rng.choice((A, B, C))
        data = mutated(rng.choice(seen), rng, lambda first: rng.choice((first, 0x10 | rng.randrange(16))))
        network.nodes[node].receive_frame(data, B if node != B else source, network.now)
        network.settle(node)
        if number % 5 == 0:
            network.run()
    network.nodes[A].links.close(C, link, network.now)
    network.settle(A)
    network.pass_time(400)
    link = network.dial(A, C)
    network.run()
    network.take(C)
    network.send(A, C, link, b"as before")
    network.run()
    assert network.take(C) == [RelayDatagram(link, A, b"as before")]


def test_changed_frames_raise_nothing_fill_nothing_and_stop_nothing() -> None:
    fuzz(10_000, 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_changed_frames_raise_nothing_fill_nothing_and_stop_nothing() -> None:
    for seed in range(10):
        fuzz(100_000, seed)


def test_any_bytes_are_read_as_the_frame_that_they_are_or_as_none() -> None:
    rng = random.Random(5)
    for _ in range(20_000):
        data = bytes((rng.choice((0x14, 0x1F, 0x10, 0x24)), rng.randrange(7))) + rng.randbytes(rng.randrange(80))
        frame = decode(data)
        assert frame is None or encode(frame) == data


def test_strangers_make_a_relay_carry_nothing() -> None:
    """Whatever they send: frames of a link that is open, changed and unchanged."""
    rng = random.Random(6)
    network = Network(line(A, B, C), between(A, C, ANY))
    link = network.dial(A, C)
    network.run()
    network.send(A, C, link, b"own")
    frames = [data for hop in network.moving.values() for data in hop]
    network.run()
    network.take(C)
    relay: RelayEndpoint = network.nodes[B]
    for _ in range(20_000):
        data = mutated(rng.choice(frames), rng) if rng.random() < 0.9 else frames[0]
        stranger = rng.randbytes(6)
        relay.receive_frame(data, stranger, network.now)
        assert relay.frames_to_send(network.now) == []
        relay.next_event()
