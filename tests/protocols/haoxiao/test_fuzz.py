"""Mutated and forged frames at every input in every state: no exception, bounded memory, and the work is finished.

    pytest -m long tests/protocols/haoxiao/test_fuzz.py        a million frames

The frames are those of the endpoint's own exchange (so that most of each is right), cut, changed, made longer, put
together anew, and those of strangers. A forged frame has changed fields, right sizes, and the unkeyed hash that fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import harness
import pytest
from fuzzing import weight
from session_schedules import STRANGERS, mutated
from session_world import World

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.receiving import ReceiverState
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import ResponderState
from bt_selfsecure.protocols.haoxiao.sending import SenderState
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.events import FrameRejected

MOST_WEIGHT = 10_000
"""Bytes and elements that an endpoint of these tests may hold: some times what it needs, and less than 200 frames."""
SHARED = tuple(map(type, SUITES.values()))


def check_weight(*endpoints: object) -> None:
    for endpoint in endpoints:
        assert weight(endpoint, *SHARED) < MOST_WEIGHT


def forged(data: bytes, rng: random.Random) -> bytes:
    """A frame with one field changed and everything around it in order, as far as that can be without a key."""
    try:
        frame = decode(data)
    except FrameError:
        return data
    match rng.randrange(6):
        case 0:
            frame = replace(frame, seq=rng.randrange(256 if frame.kind.phase else 1 << 16))
        case 1:
            frame = replace(frame, retran=rng.randrange(16))
        case 2:
            frame = replace(frame, rand=rng.randbytes(len(frame.rand)))
        case 3:
            frame = replace(frame, message=rng.randbytes(len(frame.message)))
        case 4:
            frame = replace(frame, message=mutated(frame.message, rng))
        case _:
            frame = replace(frame, mac=rng.randbytes(len(frame.mac)))
    try:
        return encode(frame, seed=rng.randbytes(32))
    except LocalError:
        return data


def hostile(corpus: list[bytes], rng: random.Random, *, forge: bool) -> bytes:
    """One frame for the fuzz; never one of the corpus as it is, for that might be right."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(200))
    while True:
        data = rng.choice(corpus)
        changed = forged(data, rng) if forge and rng.random() < 0.5 else mutated(data, rng)
        if changed not in corpus:
            return changed


# --- the session ------------------------------------------------------------------------------------------------------


def busy_world(profile: Profile, durability: Durability, seed: int) -> World:
    """Two ends that have a past."""
    world = World(profile, durability, 2, seed=seed)
    world.peace(3)
    world.crash(seed % 2)
    world.heal()
    return world


def waiting(world: World) -> None:
    world.say(0)
    world.say(1)


def unreachable(world: World) -> None:
    waiting(world)
    for _ in range(12):
        world.timeout(0)
        world.timeout(1)
        world.on_the_way.clear()


def restarted(world: World) -> None:
    waiting(world)
    world.crash(0)
    world.crash(1)


def rekeying(world: World) -> None:
    world.rekey((0,))
    world.rekey_late()


def slow(world: World) -> None:
    for i in (0, 1):
        world.set_slow(i, True)
    waiting(world)


SITUATIONS: list[Callable[[World], None]] = [lambda world: None, waiting, unreachable, restarted, rekeying, slow]


def fuzz_sessions(profile: Profile, durability: Durability, seed: int, frames: int) -> set[Enum]:
    """`frames` frames, shared among all situations; the states in which they came."""
    rng = random.Random(f"{profile} {durability} {seed}")
    states: set[Enum] = set()
    for situation in SITUATIONS:
        world = busy_world(profile, durability, seed)
        situation(world)
        corpus = [data for _, data in world.ever] + STRANGERS[profile]
        for number in range(frames // len(SITUATIONS)):
            i = number % 2
            session = world.ends[i].session
            states |= {session._sender.state, session._receiver.state}
            world.inject(i, hostile(corpus, rng, forge=True))
            if number % 500 == 0:
                world.on_the_way.clear()
                check_weight(*(end.session for end in world.ends))
        world.heal()
    return states


def fuzz_closed_session(profile: Profile, frames: int) -> set[Enum]:
    rng, world = random.Random(frames), busy_world(profile, Durability.EVERY_MESSAGE, 1)
    session, corpus = world.ends[0].session, [data for _, data in world.ever]
    session.close(world.now)
    before = session.record
    for _ in range(frames):
        session.receive_frame(hostile(corpus, rng, forge=True), world.now)
        assert isinstance(session.next_event(), FrameRejected)
    assert session.frames_to_send(world.now) == []
    assert session.record == before
    return {session._sender.state, session._receiver.state}


def check_sessions(frames: int) -> None:
    states: set[Enum] = set()
    for profile in Profile:
        for durability in Durability:
            states |= fuzz_sessions(profile, durability, 1, frames // 4)
        states |= fuzz_closed_session(profile, frames // 100)
    assert states == {*SenderState, *ReceiverState}


def test_session_survives_mutated_frames_in_every_state() -> None:
    check_sessions(30_000)


def test_a_driver_that_reads_no_events_does_not_cost_memory_without_bound() -> None:
    rng, world = random.Random(5), busy_world(Profile.HARDENED, Durability.EVERY_MESSAGE, 1)
    session, corpus = world.ends[0].session, [data for _, data in world.ever]
    for number in range(20_000):
        session.receive_frame(hostile(corpus, rng, forge=True), world.now)
        if number == 10_000:
            after_half = weight(session, *SHARED)
    assert weight(session, *SHARED) <= after_half * 1.05


# --- the establishment ------------------------------------------------------------------------------------------------


CHANNELS: dict[str, Callable[[], harness.Channel]] = {
    "clear": lambda: harness.clear,
    "accept lost": lambda: harness.lost(Kind.ACCEPT, times=2),
    "burst lost": lambda: harness.lost(Kind.RAND, times=1000),
    "acknowledge lost": lambda: harness.lost(Kind.ACKNOWLEDGE, times=1000),
    "end lost": lambda: harness.lost(Kind.END, times=1000),
}


def fuzz_establishment(profile: Profile, channel: str, frames: int, *, forge: bool) -> set[Enum]:
    """One establishment with hostile frames before and after every step of it; the states in which they came."""
    rng = random.Random(f"{profile} {channel} {frames} {forge}")
    compact = forge and channel == "clear"
    hybrid = profile is Profile.HARDENED and not compact
    cast = harness.cast(profile, channel=CHANNELS[channel](), compact=compact, exchange_shares=hybrid, start=False)
    states: set[Enum] = set()
    world, ends, given, going_on = cast.world, (cast.alice, cast.bob), 0, True
    while going_on or given < frames:
        corpus = [sent.data for sent in world.sent[-30:]] or OTHER_ESTABLISHMENTS[profile]
        for number in range(frames // 60 + 1):
            end = ends[number % 2]
            states.add(end.state)
            end.receive_frame(hostile(corpus, rng, forge=forge), world.now)
            given += 1
            if number % 16 == 0:
                drain(*ends)
        if given % 7 == 0:
            check_weight(*ends)
        if cast.alice.state is InitiatorState.NEW:
            cast.alice.start(world.now)
        going_on = world.step()
    check_weight(*ends)
    if channel == "clear" and profile is Profile.HARDENED and not forge:
        assert (cast.alice.state, cast.bob.state) == (InitiatorState.ESTABLISHED, ResponderState.ESTABLISHED)
    check_that_the_next_one_succeeds(cast, profile)
    return states


def drain(*ends: Initiator | Responder) -> None:
    for end in ends:
        while end.next_event() is not None:
            pass


def check_that_the_next_one_succeeds(cast: harness.Cast, profile: Profile) -> None:
    """Whatever became of the fuzzed establishment: its responder is fit for another."""
    now = cast.world.now + 60.0
    hybrid = cast.bob.config.exchange_shares
    fresh = harness.cast(profile, compact=cast.bob.config.compact, exchange_shares=hybrid, start=False, seed=2).alice
    world = harness.World({"alice": fresh, "bob": cast.bob}, now=now)
    fresh.start(now)
    world.run()
    assert world.established("alice").k0 == world.established("bob").k0


def frames_of_an_establishment(profile: Profile) -> list[bytes]:
    cast = harness.cast(profile, seed=7)
    cast.world.run()
    return [sent.data for sent in cast.world.sent]


OTHER_ESTABLISHMENTS = {profile: frames_of_an_establishment(profile) for profile in Profile}


def check_establishments(frames: int) -> None:
    states: set[Enum] = set()
    for profile in Profile:
        for channel in CHANNELS:
            for forge in (False, True):
                states |= fuzz_establishment(profile, channel, frames // (4 * len(CHANNELS)), forge=forge)
    assert states == {*InitiatorState, *ResponderState} - {ResponderState.CLOSED}


def test_establishment_survives_mutated_frames_in_every_state() -> None:
    check_establishments(30_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("check", [check_sessions, check_establishments])
def test_half_a_million_mutated_frames_change_nothing(check: Callable[[int], None]) -> None:
    check(500_000)
