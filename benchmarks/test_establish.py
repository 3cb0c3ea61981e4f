"""Establishments a second: both ends, one burst of N = 400 packets of which Bob loses a tenth, in virtual time."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import earliest

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LOSS, EVE = 0.1, 0.3
"""With e|B of 30 % the 360 packets that Bob receives are worth more than 128 bits: one burst is enough."""


def establish(profile: Profile, rng: random.Random) -> bool:
    """One establishment from request to end; whether both ends hold the key."""
    config = {"profile": profile, "burst": 400, "eve_loss_bound": EVE}
    alice = Initiator(EstablishConfig(b"alice1", **config), EndpointContext(os.urandom))
    bob = Responder(EstablishConfig(b"bob001", **config), EndpointContext(os.urandom))
    keys: list[bytes] = []
    now: float | None = 0.0
    alice.start(0.0)
    while now is not None:
        for sender, receiver in ((alice, bob), (bob, alice)):
            for data in sender.frames_to_send(now):
                if peek_kind(data) is not Kind.RAND or rng.random() >= LOSS:
                    receiver.receive_frame(data, now)
        for end in (alice, bob):
            while (event := end.next_event()) is not None:
                if isinstance(event, Established):
                    keys.append(event.k0)
        now = earliest(alice.get_timer(), bob.get_timer())
        if now is not None:
            alice.handle_timer(now)
            bob.handle_timer(now)
    return len(keys) == 2 and keys[0] == keys[1]


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)
def test_establishments_a_second(benchmark: BenchmarkFixture, profile: Profile) -> None:
    rng = random.Random(1)
    assert benchmark(establish, profile, rng)
    benchmark.extra_info["establishments a second"] = round(1 / benchmark.stats.stats.min)
    print(f"\n{profile.label}: {benchmark.extra_info}")
