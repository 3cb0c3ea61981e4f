"""Changed and made-up frames and letters at owner and member: no exception, bounded memory, and the work goes on.

pytest -m long tests/protocols/haoxiao/group/test_group_fuzz.py        a million frames
"""

from __future__ import annotations

import random

import pytest
from fuzzing import mutated, weight
from group_world import GroupWorld, identity

from bt_selfsecure.protocols.haoxiao.group import letters
from bt_selfsecure.protocols.haoxiao.group.letters import LetterError

A = identity(0)
MOST_WEIGHT = 20_000


def fuzz(frames: int, seed: int) -> None:
    rng = random.Random(seed)
    world = GroupWorld(seed, 3)
    world.flow()
    seen = [b"\x3d\x00\x05" + bytes(21)]
    written = [letters.encode(letters.LeaveLetter(bytes(8), 1))]
    for number in range(frames):
        member = world.members[A]
        if number % 50 == 0:
            world.say(rng.choice((8, 64)))
            seen = (seen + [data for _, data in world.air])[-200:]
            posted = [letter for m in world.members.values() for letter in (*m.to.letters, *m.back.letters)]
            written = (written + posted)[-50:]
            world.flow()
            world.pass_time(rng.choice((0.1, 1.0)))
        if member.listener is not None:
            data = mutated(rng.choice(seen), rng) if rng.random() < 0.5 else bytes([0x3D, *rng.randbytes(23)])
            listener = member.listener
            world.turn(A, lambda listener=listener, data=data: listener.receive_frame(data, world.now))  # type: ignore[misc]
        letter = mutated(rng.choice(written), rng)
        try:
            letters.decode(letter)
        except LetterError:
            world.owner.receive_letter(A, letter, world.now)
            if member.listener is not None:
                member.listener.receive_letter(letter, world.now)
        else:
            world.owner.receive_letter(b"strang", letter, world.now)
        if number % 200 == 0:
            assert weight(member.listener, type(world.source)) < MOST_WEIGHT
    world.heal()
    assert world.members[A].inbox


def test_changed_frames_and_letters_change_nothing() -> None:
    fuzz(4000, 1)


def test_whatever_bytes_come_as_a_letter_are_read_or_refused_and_written_again_as_they_were() -> None:
    rng = random.Random(2)
    world = GroupWorld(3, 3)
    written = [letter for member in world.members.values() for letter in member.to.letters]
    for _ in range(20_000):
        data = mutated(rng.choice(written), rng)
        try:
            letter = letters.decode(data)
        except LetterError:
            continue
        assert letters.encode(letter) == data


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_frames_change_nothing() -> None:
    for seed in range(20):
        fuzz(50_000, seed)
