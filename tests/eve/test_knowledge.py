"""Eve computes what she heard, no more: her claims against the truth of runs that she did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from bt_selfsecure.air.world import World
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established, Event
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.stats.losses import colluding

ALICE, BOB = b"alice!", b"bobbob"
Heard = Callable[[Random, str, Sequence[str], float], frozenset[str]]


def establish(
    profile: Profile, heard: Heard, seed: int, ears: dict[str, Knowledge], *, shares: bool = False
) -> dict[str, Established]:
    """One establishment with 64 packets; the keys that Alice and Bob hold in the end."""
    config = {
        name: EstablishConfig(
            identity, profile, burst=64, max_burst=64, threshold=16, target_bits=1, exchange_shares=shares
        )
        for name, identity in (("alice", ALICE), ("bob", BOB))
    }
    random = Random(seed)
    alice, bob = (
        Initiator(config["alice"], EndpointContext(random.randbytes)),
        Responder(config["bob"], EndpointContext(random.randbytes)),
    )
    keys: dict[str, Established] = {}

    def on_event(name: str, event: Event, now: float) -> None:
        if isinstance(event, Established):
            keys[name] = event

    world = World(heard, seed, {name: lambda time, data, k=k: k.hear(data) for name, k in ears.items()})
    alice.start(0.0)
    world.run_now({"alice": alice, "bob": bob}, on_event, lambda: len(keys) == 2, 60.0)
    return keys


def eve_misses(*, share: float) -> Heard:
    """Alice and Bob hear everything, each Eve misses this share."""

    def heard(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(name for name in listeners if name in ("alice", "bob") or random.random() >= share)

    return heard


@pytest.mark.parametrize("profile", Profile)
def test_an_eve_who_hears_everything_has_the_key(profile: Profile) -> None:
    eve = Knowledge()
    keys = establish(profile, eve_misses(share=0.0), 1, {"eve": eve})
    material = eve.initial_key()
    assert material is not None
    assert material.k0 == keys["alice"].k0 == keys["bob"].k0
    assert eve.missing == frozenset()


@pytest.mark.parametrize("profile", Profile)
def test_eve_has_the_key_exactly_if_she_missed_nothing_that_it_takes(profile: Profile) -> None:
    """50 runs at a loss where she sometimes hears it all; a claim is always true, and silence has its reason."""
    claims = 0
    for seed in range(50):
        eve = Knowledge()
        keys = establish(profile, eve_misses(share=0.02), seed, {"eve": eve})
        material = eve.initial_key()
        frames = (eve.response, eve.accept, eve.request)
        if material is None:
            assert eve.missing or None in frames
        else:
            claims += 1
            assert not eve.missing
            assert material.k0 == keys["bob"].k0
    assert 5 < claims < 45


def test_x25519_locks_out_an_eve_who_heard_every_packet() -> None:
    eve = Knowledge()
    keys = establish(Profile.HARDENED, eve_misses(share=0.0), 2, {"eve": eve}, shares=True)
    assert len(keys) == 2
    assert eve.missing == frozenset()
    assert eve.initial_key() is None


def test_colluding_eves_know_the_union_of_what_they_heard() -> None:
    apart = {"eve": Knowledge(), "eve2": Knowledge()}
    establish(Profile.HARDENED, eve_misses(share=0.3), 3, apart)
    together = Knowledge()
    establish(Profile.HARDENED, eve_misses(share=0.3), 3, {"eve": together, "eve2": together})
    assert set(together.burst) == colluding([set(k.burst) for k in apart.values()])
    assert len(together.burst) > max(len(k.burst) for k in apart.values())


def test_a_new_request_begins_a_new_knowledge() -> None:
    eve = Knowledge()
    establish(Profile.HARDENED, eve_misses(share=0.0), 4, {"eve": eve})
    first = eve.initial_key()
    keys = establish(Profile.HARDENED, eve_misses(share=0.0), 5, {"eve": eve})
    second = eve.initial_key()
    assert first is not None
    assert second is not None
    assert second.k0 == keys["alice"].k0 != first.k0


def test_what_is_not_a_frame_teaches_her_nothing() -> None:
    eve = Knowledge()
    assert eve.hear(b"") is None
    assert eve.hear(bytes(64)) is None
    assert eve.heard == 0
    assert eve.missing is None
    assert eve.initial_key() is None
