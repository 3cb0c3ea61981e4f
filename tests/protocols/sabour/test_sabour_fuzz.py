"""Mutated and strange datagrams at every input in every state: no exception, bounded memory, nobody let in.

pytest -m long tests/protocols/sabour/test_sabour_fuzz.py        a million datagrams
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

import pytest
from sabour_ends import STRANGER, Exchange, client, events, server

from bt_selfsecure.protocols.sabour.client import Client, ClientState
from bt_selfsecure.protocols.sabour.events import Established
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.server import Server

MOST_WEIGHT = 20_000
"""Bytes and elements that an endpoint may hold: 16 handshakes of some 500, and the events that wait."""
CHECKED_EVERY = 500


def weight(thing: object, seen: set[int]) -> int:
    """Bytes and elements that can be reached from an endpoint."""
    if id(thing) in seen or isinstance(thing, (Enum, type)) or callable(thing):
        return 0
    seen.add(id(thing))
    if isinstance(thing, (bytes, str)):
        return len(thing)
    if isinstance(thing, Mapping):
        return len(thing) + sum(weight(part, seen) for pair in thing.items() for part in pair)
    if is_dataclass(thing):
        return sum(weight(getattr(thing, field.name), seen) for field in fields(thing))
    if hasattr(thing, "__dict__"):
        return sum(weight(part, seen) for part in vars(thing).values())
    if hasattr(thing, "__iter__"):
        return sum(1 + weight(part, seen) for part in thing)
    return 1


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The datagram with an octet or a bit changed, cut, made longer, its kind changed, or all of it by chance."""
    at = rng.randrange(len(data))
    match rng.randrange(7):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data + rng.randbytes(rng.randrange(1, 2000))
        case 4:
            return data[:1] + rng.randbytes(len(data) - 1)
        case 5:
            return bytes([data[0] & 0xF0 | rng.randrange(8)]) + data[1:]
        case _:
            return rng.randbytes(rng.randrange(200))


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
        data = mutated(rng.choice(tape), rng) if rng.random() < 0.9 else rng.choice(tape)
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
            assert weight(host, set()) < MOST_WEIGHT
            assert weight(device, set()) < MOST_WEIGHT
    assert {ClientState.NEW, ClientState.GREETING, ClientState.PROVING} <= in_states


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_no_datagram_raises_or_stays_and_none_of_a_stranger_lets_him_in(profile: Profile) -> None:
    for seed in (1, 2):
        fuzz(profile, seed, 4_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_a_million_datagrams(part: int) -> None:
    for number, profile in enumerate((Profile.HARDENED, Profile.HARDENED, Profile.PAPER_ECDSA, Profile.PAPER_HASH)):
        fuzz(profile, 100 + 5 * part + number, 25_000)
