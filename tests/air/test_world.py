"""The world of virtual time, and that both airs drive the same endpoints to the same kind of end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

import pytest

from bt_selfsecure.air.linked import LinkedAir
from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.air.world import LATENCY_S, Medium, World
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established, Event
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext

MODEL = Bernoulli({"bob": 0.1, "eve": 0.2})


def pair(seed: int) -> dict[str, Initiator | Responder]:
    random = Random(seed)
    config = partial(EstablishConfig, burst=50, max_burst=400, target_bits=20, eve_loss_bound=0.1)
    alice = Initiator(config(b"alice!"), EndpointContext(random.randbytes))
    alice.start(0.0)
    return {"alice": alice, "bob": Responder(config(b"bobbob"), EndpointContext(random.randbytes))}


async def keys_over(air: Medium, endpoints: dict[str, Initiator | Responder]) -> dict[str, Established]:
    keys: dict[str, Established] = {}

    def on_event(name: str, event: Event, now: float) -> None:
        if isinstance(event, Established):
            keys[name] = event

    await air.run(endpoints, on_event, lambda: len(keys) == 2, 600.0)
    return keys


def recorded(seed: int) -> list[tuple[float, bytes]]:
    heard: list[tuple[float, bytes]] = []
    world = World(MODEL.transmit, seed, {"eve": lambda time, data: heard.append((time, data))})
    run_virtual(keys_over(world, pair(seed)))
    return heard


def test_the_same_seed_gives_the_same_bytes_at_the_same_times() -> None:
    assert recorded(1) == recorded(1)
    assert recorded(1) != recorded(2)


def test_a_listener_gets_what_the_model_lets_it_hear_and_nothing_else() -> None:
    told: list[frozenset[str]] = []

    def heard(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        assert sender not in listeners
        told.append(MODEL.transmit(random, sender, listeners, now))
        return told[-1]

    got: list[bytes] = []
    world = World(heard, 3, {"eve": lambda time, data: got.append(data)})
    world.run_now(pair(3), lambda name, event, now: None, lambda: False, 600.0)
    assert len(got) == sum("eve" in names for names in told)
    assert 0.7 < len(got) / len(told) < 0.9


def test_calls_happen_in_the_order_of_their_times_and_then_of_their_making() -> None:
    world, seen = World(MODEL.transmit, 1), []
    for name, time in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        world.at(time, partial(seen.append, name))
    world.run_now({}, lambda name, event, now: None, lambda: False, 10.0)
    assert seen == ["first", "second", "late"]
    assert world.now == 2.0


def test_a_world_stops_after_its_seconds() -> None:
    world = World(lambda random, sender, listeners, now: frozenset(), 1)
    world.run_now(pair(4), lambda name, event, now: None, lambda: False, 0.25)
    assert world.now <= 0.25


def test_a_packet_takes_the_latency() -> None:
    times: list[float] = []
    world = World(Bernoulli({"bob": 0, "eve": 0}).transmit, 1, {"eve": lambda time, data: times.append(time)})
    world.run_now(pair(5), lambda name, event, now: None, lambda: bool(times), 1.0)
    assert times == [LATENCY_S]


@pytest.mark.parametrize("bearer", ["memory", "rfcomm", "l2cap"])
def test_every_air_brings_the_same_endpoints_to_equal_keys(bearer: str) -> None:
    async def linked() -> dict[str, Established]:
        from bt_selfsecure.air.bluetooth import VirtualBluetooth

        heard = partial(MODEL.transmit, Random(7))
        async with VirtualBluetooth(bearer, heard, {}) as bluetooth:  # type: ignore[arg-type]
            return await keys_over(LinkedAir(bluetooth.links), pair(7))

    keys = run_virtual(keys_over(World(MODEL.transmit, 7), pair(7)) if bearer == "memory" else linked())
    assert keys["alice"].k0 == keys["bob"].k0
    assert keys["alice"].sas == keys["bob"].sas
