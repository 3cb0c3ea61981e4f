"""Mutated and strange datagrams at every input in every state: no exception, bounded memory, nobody let in.

pytest -m long tests/protocols/sabour/test_sabour_fuzz.py        a million datagrams an end and profile
"""

from __future__ import annotations

import random

import pytest
from fuzzing import mutated, weight
from sabour_ends import STRANGER, Exchange, client, events, server

from bt_selfsecure.protocols.sabour.client import Client, ClientState
from bt_selfsecure.protocols.sabour.events import Established
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server

MOST_WEIGHT = 20_000
"""Bytes and elements that an endpoint may hold: 16 handshakes of some 500, and the events that wait."""
CHECKED_EVERY = 500


def hostile(data: bytes, rng: random.Random) -> bytes:
    """Return the datagram changed, perhaps of another kind, or all of it by chance."""
    if rng.random() < 0.15:
        return data[: rng.randrange(2)] + rng.randbytes(rng.randrange(200))
    return mutated(data, rng, lambda octet: octet & 0xF0 | rng.randrange(8), longest=2000)


def fuzz(profile: Profile, seed: int, datagrams: int) -> None:
    rng = random.Random(seed)
    tape = Exchange(client(profile), server(profile)).run().said
    tape += Exchange(client(profile, seed="2"), server(profile, seed="2")).run().said
    tape += Exchange(client(profile, identity=STRANGER), server(profile)).run().said
    host, device, now = server(profile, seed="fuzzed", half_open=5.0), client(profile, seed="fuzzed"), 0.0
    in_states: set[ClientState] = set()
    spoken: set[bytes] = set()  # what the two ends said themselves: all else is a stranger's
    watched = bool(seed % 2)  # else events wait, until there is no room
    for number in range(datagrams):
        if number % 50 == 0:  # every state has its turn
            device = client(profile, seed=f"fuzzed {number}")
            if rng.random() < 0.95:
                device.start(now)
        end: Client | Server = rng.choice((host, device))
        data = hostile(rng.choice(tape), rng) if rng.random() < 0.9 else rng.choice(tape)
        end.receive_frame(data, now)
        if watched and profile.hardened and any(isinstance(event, Established) for event in events(end)):
            assert data in spoken
        if rng.random() < 0.1:
            now += rng.random()
            host.handle_timer(now)
            device.handle_timer(now)
        if rng.random() < 0.2:
            said = [*device.frames_to_send(now), *host.frames_to_send(now)]
            spoken |= {*said}
            tape = [*tape, *said][-24:]
        in_states.add(device.state)
        if number % CHECKED_EVERY == 0:
            assert weight(host) < MOST_WEIGHT
            assert weight(device) < MOST_WEIGHT
    assert {ClientState.NEW, ClientState.GREETING, ClientState.PROVING} <= in_states


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_no_datagram_raises_or_stays_and_none_of_a_stranger_lets_him_in(profile: Profile) -> None:
    for seed in (1, 2):
        fuzz(profile, seed, 4_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
@pytest.mark.parametrize("part", range(10))
def test_a_million_datagrams(part: int, profile: Profile) -> None:
    for seed in (100 + part, 201 + part):
        fuzz(profile, seed, 100_000)
