"""A stranger who knows the protocol's public side: requests and garbage, as fast as the link takes it.

stranger.py OWN_ADDRESS ADDRESS COUNT      prints JSON: frames sent, parts accepted, seconds from first to last frame
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from bt_selfsecure.bearers.base import BearerError, Link
from bt_selfsecure.bearers.specs import open_bearer
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.sansio.context import EndpointContext


def frame(draw: random.Random, own: bytes) -> bytes:
    """A well-formed request half of the time, under the own name or another; else one tampered with, or noise."""
    identity = draw.choice((own, draw.randbytes(6)))
    initiator = Initiator(EstablishConfig(identity, exchange_shares=True), EndpointContext(draw.randbytes))
    initiator.start(0.0)
    request = bytearray(initiator.frames_to_send(0.0)[0])
    if draw.random() < 0.5:
        return bytes(request)
    if draw.random() < 0.5:
        request[draw.randrange(len(request))] ^= 1 << draw.randrange(8)
        return bytes(request)
    return draw.randbytes(draw.randrange(1, 200))


async def listen(link: Link, accepted: set[bytes]) -> None:
    """Until the link ends: which parts the other end has begun for our sake."""
    try:
        while True:
            data = await link.receive()
            if peek_kind(data) is Kind.ACCEPT:
                accepted.add(data)
    except BearerError:
        pass


async def main(own: str, address: str, count: int) -> None:
    draw, sent, accepted, began = random.Random(1), 0, set(), time.monotonic()
    identity = bytes.fromhex(own.replace(":", ""))
    bearer = open_bearer("rfcomm")
    while sent < count:
        try:
            link = await bearer.connect(address)
        except BearerError as error:
            if not error.transient:
                raise
            await asyncio.sleep(0.5)
            continue
        listening = asyncio.create_task(listen(link, accepted))
        try:
            while sent < count:
                await link.send(frame(draw, identity))
                sent += 1
            await asyncio.sleep(1)
        except BearerError:
            pass
        await link.close()
        await listening
    print(json.dumps({"sent": sent, "accepted": len(accepted), "seconds": time.monotonic() - began}))
    await bearer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
