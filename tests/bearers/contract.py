"""What every bearer must do, checked between two ends: in one process for memory, on two machines for the kernel's.

Run as a program on a machine: contract.py listen|connect SPEC PEER CHECK; prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, LinkClosedError
from bt_selfsecure.bearers.specs import open_bearer

INDEX_BYTES = 2
HELLO = b"?"
HELLOS = 20
LONG = 336
"""Bytes: with its L2CAP header such a datagram is more than one DH5 packet."""
QUIET_S = 5.0
DIAL_S = 180.0


@dataclass
class Exchange:
    """What one end received of what the other sent."""

    sent: int
    received: int
    long_lost: int
    """Datagrams longer than one baseband packet that did not arrive."""
    garbled: int
    ordered: bool
    mtu: int
    encrypted: bool


def datagram(who: str, number: int, size: int) -> bytes:
    """Known to both ends from its first two bytes and its length."""
    seed = hashlib.shake_128(f"{who} {number} {size}".encode())
    return number.to_bytes(INDEX_BYTES) + seed.digest(size - INDEX_BYTES)


def sizes(mtu: int, count: int) -> list[int]:
    """From the shortest that carries an index to the longest."""
    longest = min(mtu, 5000)
    wanted = [INDEX_BYTES, 3, 20, 24, 61, 100, 335, 336, 900, 1232, longest]
    fit = [size for size in wanted if size <= longest]
    return [fit[number % len(fit)] for number in range(count)]


async def meet(link: Link) -> None:
    """On a broadcast nobody knows since when the other hears: call until it is heard, then some more for the other."""
    heard = asyncio.create_task(link.receive())
    while not heard.done():
        await link.send(HELLO)
    for _ in range(HELLOS):
        await link.send(HELLO)


async def exchange(link: Link, me: str, other: str, count: int) -> Exchange:
    """Both ends send `count` datagrams at once and look at what arrives, until all did or none comes any more."""
    numbers: list[int] = []
    garbled = 0

    async def send() -> None:
        for number, size in enumerate(sizes(link.mtu, count)):
            await link.send(datagram(me, number, size))

    async def receive() -> None:
        nonlocal garbled
        while len(numbers) < count:
            data = await link.receive()
            if data == HELLO:
                continue
            number = int.from_bytes(data[:INDEX_BYTES])
            garbled += len(data) < INDEX_BYTES or data != datagram(other, number, len(data))
            if not numbers or number != numbers[-1]:  # an advertisement is heard as often as it is on the air
                numbers.append(number)

    sending, receiving = asyncio.create_task(send()), asyncio.create_task(receive())
    await sending
    while not receiving.done():
        before = len(numbers)
        await asyncio.wait((receiving,), timeout=QUIET_S)
        if len(numbers) == before:
            receiving.cancel()
            break
    else:
        with contextlib.suppress(LinkClosedError):  # the other end has all and is gone
            await receiving
    lost = set(range(count)) - set(numbers)
    long_lost = sum(sizes(link.mtu, count)[number] >= LONG for number in lost)
    ordered = numbers == sorted(numbers)
    return Exchange(count, count - len(lost), long_lost, garbled, ordered, link.mtu, link.traits.link_encrypted)


async def dial(bearer: Bearer, peer: str) -> Link:
    """Try until the other end listens."""
    clock = asyncio.get_running_loop().time
    until = clock() + DIAL_S
    while True:
        try:
            return await bearer.connect(peer)
        except BearerError as error:
            if not error.transient or clock() > until:
                raise
            print(error, file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)


async def link_of(bearer: Bearer, role: str, peer: str) -> Link:
    if bearer.traits.broadcast or role == "connect":
        return await dial(bearer, peer)
    listener = await bearer.listen()
    link = await listener.accept()
    assert link.peer == peer, link.peer
    return link


async def closing(link: Link) -> str:
    """How a link that nobody closes here ends."""
    try:
        while True:
            await link.receive()
    except LinkClosedError as error:
        return str(error)


async def check(role: str, spec: str, peer: str, what: str) -> Any:
    bearer = open_bearer(spec)
    me = "dialler" if role == "connect" else "listener"
    other = "listener" if role == "connect" else "dialler"
    try:
        link = await link_of(bearer, role, peer)
        if link.traits.broadcast:
            await meet(link)
        if what == "close":
            await link.send(b"x")
            if role == "connect":
                await asyncio.sleep(2)
                await link.close()
                await link.close()
                try:
                    await link.receive()
                except LinkClosedError as error:
                    return str(error)
            return await closing(link)
        if what == "gone":
            print("linked", flush=True)
            return await closing(link)
        result = asdict(await exchange(link, me, other, int(what)))
        await asyncio.sleep(1)
        await link.close()
        return result
    finally:
        await bearer.close()


def main(arguments: Sequence[str]) -> None:
    print(json.dumps(asyncio.run(check(*arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
