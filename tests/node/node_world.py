"""Whole nodes in virtual time: real journals and local APIs, joined by a bearer in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bearers.base import Bearer, Link, Listener, Traits
from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.node.config import Config, DiscoveryTable, EstablishTable, NodeTable, PeerTable, SessionTable
from bt_selfsecure.node.service import Node

ADDRESSES = {
    name: f"B8:27:EB:00:00:{number:02X}"
    for number, name in enumerate(
        ("alice", "bob", "carol", "dave", "mallory", "erin", "frank", "grace", "heidi", "ivan"), 1
    )
}


class WallClock:
    """`time`, as far as a node uses it, at the pace of virtual time."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.offset = start

    def time(self) -> float:
        return self.offset + asyncio.get_running_loop().time()

    def jump(self, seconds: float) -> None:
        self.offset += seconds


def lossy(probability: float, seed: int) -> Callable[[bytes], bool] | None:
    generator = random.Random(seed)
    return (lambda datagram: generator.random() < probability) if probability else None


class Media:
    """One device's bearers: by name from its own air, or from the common one."""

    def __init__(self, airs: dict[str, MemoryAir | AdvertAir], address: str) -> None:
        self._airs, self._address = airs, address

    def open(self, name: str) -> Bearer:
        return self._airs[name].bearer(self._address)


class World:
    """Nodes of these names, each with all others as peers unless `peers` says which."""

    def __init__(self, folder: Path, *, loss: float = 0.0, seed: int = 1, **settings: Any) -> None:
        self.folder = folder
        self.airs: dict[str, MemoryAir | AdvertAir] = {"rfcomm": MemoryAir(lossy(loss, seed))}
        self.settings = settings
        self.nodes: dict[str, Node] = {}

    @property
    def air(self) -> MemoryAir:
        return self.airs["rfcomm"]

    def config(self, name: str, peers: tuple[str, ...], **settings: Any) -> Config:
        """A setting is named `table__key`."""
        base = Config(
            node=NodeTable(
                name=name,
                state_directory=self.folder / name,
                socket=self.folder / f"{name}.sock",
            ),
            establish=EstablishTable(bearer="rfcomm", burst=200, target_bits=40.0, eve_loss_bound=0.2),
            session=SessionTable(timeout_ms=50),
            discovery=DiscoveryTable(advertise=False, scan=False),
            peer=tuple(PeerTable(peer, ADDRESSES[peer]) for peer in peers),
        )
        for setting, value in (self.settings | settings).items():
            if setting == "peer":
                base = replace(base, peer=value)
                continue
            if setting == "dial":
                base = replace(base, peer=tuple(replace(peer, dial=value) for peer in base.peer))
                continue
            table, _, key = setting.partition("__")
            base = replace(base, **{table: replace(getattr(base, table), **{key: value})})
        return base

    async def start(self, name: str, *peers: str, **settings: Any) -> Node:
        config = self.config(name, peers, **settings)
        node = Node(config, Media(self.airs, ADDRESSES[name]), ADDRESSES[name])
        await node.start()
        self.nodes[name] = node
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    @asynccontextmanager
    async def pair(self, **settings: Any) -> AsyncIterator[tuple[Node, Node]]:
        """Alice and Bob."""
        try:
            alice = await self.start("alice", "bob", **settings)
            bob = await self.start("bob", "alice", **settings)
            yield alice, bob
        finally:
            await self.close()

    async def close(self) -> None:
        for name in list(self.nodes):
            await self.stop(name)


def virtual(main: Coroutine[Any, Any, None]) -> None:
    """Run it; what a node logs as a fault of the program fails the test."""
    faults: list[str] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "fault of this program" in record.getMessage():
                faults.append(self.format(record))

    watch = Watch()
    logging.getLogger("bt_selfsecure").addHandler(watch)
    try:
        run_virtual(main)
    finally:
        logging.getLogger("bt_selfsecure").removeHandler(watch)
    assert not faults, faults[0]


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], Any], seconds: float = 600.0, step: float = 0.05) -> None:
    """Wait in virtual time; fails when it takes longer."""
    end = now() + seconds
    while not condition():
        assert now() < end, f"not within {seconds:g} s"
        await asyncio.sleep(step)


def peer_of(node: Node, name: str) -> dict[str, Any]:
    return next(peer for peer in node.peers() if peer["name"] == name)


def is_connected(node: Node, name: str) -> bool:
    return bool(peer_of(node, name)["state"] == "connected")


async def connected(alice: Node, bob: Node, seconds: float = 600.0) -> None:
    """Both ends have one key and have found together."""
    await until(lambda: is_connected(alice, "bob") and is_connected(bob, "alice"), seconds)
    await until(lambda: fingerprint(alice, "bob") == fingerprint(bob, "alice"), seconds)


def fingerprint(node: Node, name: str) -> str | None:
    key = peer_of(node, name)["key"]
    return key["fingerprint"] if key else None


async def read(node: Node, count: int, *, peer: str | None = None, port: int = 0) -> list[bytes]:
    """So many messages, acknowledged each as it comes."""
    messages: list[bytes] = []
    if count:
        async for received in node.inbox(peer, port):
            messages.append(received.message)
            node.acknowledge(received.id)
            if len(messages) == count:
                break
    return messages


async def unread(node: Node, port: int = 0) -> list[bytes]:
    """What waits in the inbox; it stays there."""
    return [received.message async for received in node.inbox(None, port, follow=False)]


async def send_all(node: Node, peer: str, messages: list[bytes], port: int = 0) -> None:
    """As fast as the queue takes them."""
    from bt_selfsecure.node.errors import QueueFullError

    for message in messages:
        while True:
            try:
                await node.send(peer, message, port=port)
                break
            except QueueFullError:
                await asyncio.sleep(0.1)


def record_secrets(node: Node, name: str) -> list[str]:
    """Hexadecimal of everything in the journal that is secret."""
    row = node.journal.peer(ADDRESSES[name])
    assert row is not None
    record = json.loads(row.record)
    found = []
    for direction in ("sending", "receiving"):
        state = record[direction]
        found += [state["key"], state["offer"], state.get("previous", ""), *state["checkpoints"]]
    return [secret for secret in found if secret]


def links_of(node: Node, name: str) -> list[Link]:
    peer = node._peers[ADDRESSES[name]]
    return [line.link for line in peer._lines]


class AdvertAir:
    """A broadcast medium in memory: each of those who listen loses by `lose` for itself."""

    def __init__(self, lose: Callable[[bytes], bool] | None = None) -> None:
        self.lose = lose or (lambda datagram: False)
        self.links: list[AdvertLink] = []
        self.most_open = 0
        self.sent: list[tuple[str, bytes]] = []
        """By whose address, and what; once each, whoever hears it."""

    def bearer(self, address: str) -> AdvertBearer:
        return AdvertBearer(self, address)


class AdvertBearer(Bearer):
    name = "le_advert"
    traits = Traits(losses_visible=True, ordered=True, broadcast=True, link_encrypted=False)

    def __init__(self, air: AdvertAir, address: str) -> None:
        self.air, self.address = air, address

    async def connect(self, peer: str) -> Link:
        await asyncio.sleep(0.01)
        return AdvertLink(self, peer)

    async def listen(self) -> Listener:
        raise AssertionError("nobody listens for connections on a broadcast bearer")

    async def close(self) -> None:
        for link in [link for link in self.air.links if link.bearer is self]:
            await link.close()


class AdvertLink(Link):
    def __init__(self, bearer: AdvertBearer, peer: str) -> None:
        self.bearer, self.peer, self.mtu, self.traits = bearer, peer, 24, bearer.traits
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        bearer.air.links.append(self)
        bearer.air.most_open = max(bearer.air.most_open, len(bearer.air.links))

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        await asyncio.sleep(0.03)
        self.bearer.air.sent.append((self.bearer.address, data))
        for link in self.bearer.air.links:
            if link.peer == self.bearer.address and not self.bearer.air.lose(data):
                link.received.put_nowait(data)

    async def receive(self) -> bytes:
        return await self.received.get()

    async def close(self) -> None:
        if self in self.bearer.air.links:
            self.bearer.air.links.remove(self)
