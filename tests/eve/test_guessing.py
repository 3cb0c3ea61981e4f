"""Packets that Eve lacks, repaired or guessed: never more than the stated work, never a wrong key."""

from __future__ import annotations

import math
from random import Random

import pytest

from bt_selfsecure.bench.haoxiao.attacks import _clear
from bt_selfsecure.bench.haoxiao.testbed import Testbed
from bt_selfsecure.eve.haoxiao.attacks.guessing import BruteForce, Repair
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode, encode
from bt_selfsecure.stats.losses import repair_work


def heard_in_full(compact: bool = True) -> Testbed:
    scene = Testbed(Profile.HARDENED, 1, _clear(eve=0.0), burst=16, compact=compact)
    scene.establish()
    assert scene.eve_has_key
    return scene


def copy_of(scene: Testbed, seq: int) -> bytes:
    assert scene.knowledge.request
    rand = scene.knowledge.request.rand[:2]
    from bt_selfsecure.protocols.haoxiao.frames import Frame

    return encode(Frame(Profile.HARDENED, Kind.RAND_COMPACT, 0, seq, rand, scene.knowledge.burst[seq]))


def flipped(data: bytes, *places: int) -> bytes:
    return (int.from_bytes(data) ^ sum(1 << place for place in places)).to_bytes(len(data))


@pytest.mark.parametrize("places", [(0,), (191,), (5, 100), (30, 150)])
def test_flipped_bits_are_found_and_the_response_proves_the_key(places: tuple[int, ...]) -> None:
    """In the check, in the head, in the message."""
    scene = heard_in_full()
    damaged = flipped(copy_of(scene, 3), *places)
    del scene.knowledge.burst[3]
    assert not scene.eve_has_key
    repair = Repair(scene.knowledge)
    assert repair.hear(damaged)
    material = repair.initial_key()
    assert material is not None
    assert scene.is_key(material.k0)
    assert repair.apply() == 1
    assert scene.eve_has_key


def test_the_work_is_never_more_than_was_stated() -> None:
    scene = heard_in_full()
    damaged = flipped(copy_of(scene, 3), 1, 2)
    del scene.knowledge.burst[3]
    for work in (0, 1, 100):
        repair = Repair(scene.knowledge, work)
        assert not repair.hear(damaged)
        assert repair.initial_key() is None
        assert repair.tries <= work
    brute = BruteForce(scene.knowledge, (Random(n).randbytes(16) for n in range(1000)), 10)
    assert brute.initial_key() is None
    assert brute.tries == 10


def test_the_work_of_repairing_many_copies_is_what_is_reckoned_within_a_factor_of_four() -> None:
    """Each copy is confirmed by itself, so the tries add: they were once multiplied."""
    scene, draw = heard_in_full(), Random(4)
    seqs = sorted(scene.knowledge.burst)[:6]
    damaged = [flipped(copy_of(scene, seq), *draw.sample(range(192), 2)) for seq in seqs]
    for seq in seqs:
        del scene.knowledge.burst[seq]
    repair = Repair(scene.knowledge, work=1 << 20)
    assert all(repair.hear(copy) for copy in damaged)
    assert repair.initial_key() is not None
    assert repair.apply() == len(seqs)
    assert scene.eve_has_key
    assert abs(math.log2(repair.tries) - repair_work([2] * len(seqs), 192)) <= 2


def test_noise_and_packets_that_she_has_are_no_repair() -> None:
    scene = heard_in_full()
    known = flipped(copy_of(scene, 3), 7)
    repair = Repair(scene.knowledge, work=2000)
    assert not repair.hear(known)
    assert not repair.hear(Random(1).randbytes(24))
    assert repair.apply() == 0


def test_a_short_message_is_found_among_those_that_it_can_be() -> None:
    scene = heard_in_full()
    message = scene.knowledge.burst.pop(3)
    possible = [Random(n).randbytes(16) for n in range(20)] + [message]
    brute = BruteForce(scene.knowledge, possible)
    material = brute.initial_key()
    assert material is not None
    assert scene.is_key(material.k0)
    assert brute.tries == 21
    assert decode(copy_of(heard_in_full(), 3)).message == message
