"""Mutated datagrams at both ends of DTLS and at its listener, before, in and after the handshake: libssl is C.

pytest -m long tests/test_dtls_fuzz.py        a million at each of the three
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from dtls_pair import Pair, ask, events
from fuzzing import mutated, resident

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import DataReceived

TURNS = 5
"""Of a handshake and one message: mutated datagrams come before each and after the last."""
IN_HANDSHAKE, AFTERWARDS = 3, 30
"""So many then, at each input: in a handshake one can end it, and what follows hits what is over."""
MOST_GROWN = 8 << 20
WARM = 20_000
GENUINE = [DataReceived(b"genuine")]


def hostile(seen: list[bytes], dice: random.Random) -> bytes:
    """Return one that was seen, changed; a fifth keeps its record headers right, so that what is in them is read."""
    data = dice.choice(seen)
    if dice.random() < 0.2 and len(data) > 13:
        at = dice.randrange(13, len(data))
        return data[:at] + dice.randbytes(1) + data[at + 1 :]
    return mutated(data, dice, lambda octet: dice.choice((20, 21, 22, 23, 25, octet)), longest=300)


class Fuzz:
    """Runs handshake after handshake, each among mutated datagrams."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.at = DtlsListener({b"devA": bytes(range(32))}.get, os.urandom, 0.0)
        self.came = {"client": 0, "server": 0, "listener": 0}
        self.kept = 0
        self.seen: list[bytes] = []

    def handshake(self) -> None:
        dice, seen = self.dice, self.seen

        def noted(data: bytes) -> list[bytes]:
            seen.append(data)
            del seen[:-24]
            return [data]

        pair = Pair(Dtls.client(ask(), 0.0), self.at, noted)
        hit: list[tuple[str, Callable[[bytes], object]]] = [
            ("client", lambda data: pair.client.receive_frame(data, 0.0)),
            ("server", lambda data: pair.server.receive_frame(data, 0.0) if pair.server else None),
            ("listener", lambda data: self.at.receive_frame(data, b"elsewhere", 0.0)),
        ]
        quiet_until = dice.randrange(TURNS + 1)  # in half of them the handshake comes through
        for turn in range(TURNS + 1):
            before = pair.established
            for name, receive in hit if turn >= quiet_until and seen else ():
                if name == "server" and pair.server is None:
                    continue
                for _ in range(AFTERWARDS if before else IN_HANDSHAKE):
                    self.came[name] += 1
                    result = receive(hostile(seen, dice))
                    assert not isinstance(result, Dtls), "a cookie is good for one place"
            assert pair.established >= before, "an established session was ended by a stranger"
            if turn < TURNS:
                pair.turn()
            if pair.established and not before:
                pair.client.send(b"genuine", 0.0)
        self.kept += pair.established
        got = [event for event in events(pair.server) if isinstance(event, DataReceived)]
        assert got in ([], GENUINE)
        assert not any(isinstance(event, DataReceived) for event in events(pair.client))


@pytest.mark.parametrize(
    "datagrams", [2_000, *(pytest.param(100_000 + part, marks=pytest.mark.long) for part in range(10))]
)
def test_mutated_datagrams_raise_nothing_forge_nothing_and_fill_no_memory(datagrams: int) -> None:
    fuzz, at_first = Fuzz(datagrams), 0
    while min(fuzz.came.values()) < datagrams:
        fuzz.handshake()
        if not at_first and min(fuzz.came.values()) >= min(WARM, datagrams // 2):
            at_first = resident()
    assert fuzz.kept > 10
    assert resident() - at_first < MOST_GROWN
    assert Pair(Dtls.client(ask(), 0.0), fuzz.at).shake().established, "who has the key is served on"
