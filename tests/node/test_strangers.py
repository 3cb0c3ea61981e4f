"""Whoever is near can reach a node that accepts anyone: what he can cause stays small."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest
from node_world import ADDRESSES, World, connected, virtual

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.sansio.context import EndpointContext

OWN = address_bytes(ADDRESSES["mallory"])


def request(draw: random.Random) -> bytes:
    """Under his own name or a made-up one, of either profile."""
    identity = draw.choice((OWN, draw.randbytes(6)))
    profile = draw.choice(list(Profile))
    timers = Timers() if profile is Profile.HARDENED else Timers(t_1=4.0)
    initiator = Initiator(
        EstablishConfig(identity, profile, timers, exchange_shares=profile is Profile.HARDENED),
        EndpointContext(draw.randbytes),
    )
    initiator.start(0.0)
    return initiator.frames_to_send(0.0)[0]


def test_t_d_holds_and_the_log_stays_short_under_a_flood_of_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, node__accept="anyone")
    draw = random.Random(1)
    accepted = set()

    async def listen(link: Link) -> None:
        while True:
            data = await link.receive()
            if peek_kind(data) is Kind.ACCEPT:
                accepted.add(data)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            caplog.clear()
            link = await world.air.bearer(ADDRESSES["mallory"]).connect(ADDRESSES["bob"])
            listening = asyncio.create_task(listen(link))
            for _ in range(2000):
                await link.send(request(draw))
                await asyncio.sleep(0.05)
            listening.cancel()
            await link.close()
            await connected(alice, bob)

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert len(accepted) == 10, "in 100 s with T_d = 10 s"
    assert len([line for line in caplog.messages if line.startswith(ADDRESSES["mallory"])]) < 12
