"""A pairing that is given up while something else happens."""

from __future__ import annotations

import asyncio
import os
from typing import cast

import pytest

from bt_selfsecure.bearers.base import BearerError, Link
from bt_selfsecure.node.pairing.driver import PairingContext, PairingDriver
from bt_selfsecure.protocols.pairing.codes import Way, decode, drawn_secret
from bt_selfsecure.protocols.pairing.end import PairingConfig
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder
from bt_selfsecure.sansio.context import EndpointContext


class Nobody:
    """A node that reaches nobody."""

    async def dial(self, bearer: str, address: str) -> Link:
        raise BearerError("nobody is there")


@pytest.mark.parametrize("turns", range(5))
def test_a_pairing_that_is_given_up_in_the_moment_in_which_a_frame_comes_ends(turns: int) -> None:
    context = EndpointContext(os.urandom, name="pairing")
    alice, bob = (PairingConfig(bytes(5) + bytes([number]), "pi") for number in (1, 2))
    shown = PairingResponder(bob, Way.CALL, drawn_secret(Way.CALL, os.urandom), context).carried

    async def main() -> None:
        endpoint = PairingInitiator(alice, decode(Way.CALL, shown.encode()), context)
        endpoint.start(asyncio.get_running_loop().time())
        assert endpoint.get_timer() is not None
        node = cast(PairingContext, Nobody())
        driver = PairingDriver(node, "udp", Way.CALL, endpoint, lambda event, **fields: None, call="", name="")
        running = asyncio.create_task(driver.run())
        await asyncio.sleep(0.01)
        driver._wake.set()  # as a frame does
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=1.0)
        assert done, "it goes on, and whoever gave it up waits for ever"
        assert running.cancelled()

    asyncio.run(main())
