"""A stranger who knows the protocol's public side: requests under any name and garbage, as fast as the link takes it.

stranger.py ADDRESS COUNT
"""

from __future__ import annotations

import asyncio
import random
import sys

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.specs import open_bearer
from bt_selfsecure.core.establish import EstablishConfig
from bt_selfsecure.core.initiator import Initiator


def frame(draw: random.Random) -> bytes:
    """A well-formed request half of the time, else one that was tampered with, or noise."""
    initiator = Initiator(EstablishConfig(draw.randbytes(6)), draw.randbytes)
    initiator.start(0.0)
    request = bytearray(initiator.frames_to_send(0.0)[0])
    if draw.random() < 0.5:
        return bytes(request)
    if draw.random() < 0.5:
        request[draw.randrange(len(request))] ^= 1 << draw.randrange(8)
        return bytes(request)
    return draw.randbytes(draw.randrange(1, 200))


async def main(address: str, count: int) -> None:
    draw, sent = random.Random(1), 0
    bearer = open_bearer("rfcomm")
    while sent < count:
        try:
            link = await bearer.connect(address)
        except BearerError as error:
            if not error.transient:
                raise
            await asyncio.sleep(0.5)
            continue
        try:
            while sent < count:
                await link.send(frame(draw))
                sent += 1
        except BearerError:
            pass
        await link.close()
    print("sent", sent)
    await bearer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
