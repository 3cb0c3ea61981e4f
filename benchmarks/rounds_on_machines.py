"""Stop-and-wait rounds in turn over one RFCOMM link, four ways; runs on virtual (or real) Pis.

rounds_on_machines.py OWN_NAME PEER_NAME PEER_ADDRESS DURABILITY BLOCKS

echo      two datagrams, as long as a session's data frame and its acknowledgement
disk      the same, and each end has brought a record and a message to the card before it sends: one SQLite transaction
          of as many bytes as a node's, and nothing else. The least that a round in `every-message` can take
session   the core's two ends and nothing else: what the protocol costs
node      two nodes with all they do for a message: queues, journal on the card, local API's verbs (not its HTTP)

The lower name dials, measures and prints JSON: seconds of each round, by way. test_rounds.py measures the same within
one process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path

from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener
from bt_selfsecure.bearers.hci import adapter_address
from bt_selfsecure.bearers.specs import open_bearer
from bt_selfsecure.node.config import (
    Config,
    DiscoveryTable,
    EstablishTable,
    NodeTable,
    PeerTable,
    SessionTable,
)
from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.events import MessageDelivered
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import StateChanged

MESSAGE = bytes(64)
DATA_FRAME_BYTES, ACK_FRAME_BYTES = 36 + 1 + len(MESSAGE), 20
ECHO, ANSWER, GOODBYE, CORE, DISK = b"\xff", b"\xfe", b"\xfd", b"\xfc", b"\xfb"
"""First octets of datagrams that are not the node's."""
ROUNDS = 20
"""In a block."""
PLACE = Path("/var/lib/bt-selfsecure/rounds")
RECORD_CHARACTERS = 1400
"""As long as a session's, with its key's facts."""


def node_config(own: str, peer: str, address: str, durability: str, place: Path) -> Config:
    return Config(
        node=NodeTable(name=own, state_directory=place, socket=place / f"{own}.sock"),
        establish=EstablishTable(bearer="rfcomm", burst=100, target_bits=20.0, eve_loss_bound=0.25),
        session=SessionTable(durability=durability),
        discovery=DiscoveryTable(advertise=False, scan=False),
        peer=(PeerTable(peer, address, dial="always" if own < peer else "never"),),
    )


class BareDisk:
    """A database in the journal's mode; each commit brings one record and one message to the disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._commits = 0
        self._database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, record TEXT)")
        self._database.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, message BLOB)")
        self._database.execute("INSERT INTO record VALUES (1, '')")

    def commit(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO message (message) VALUES (?)", (MESSAGE,))
        self._database.execute("UPDATE record SET record = ? WHERE id = 1", (self._new_record(),))
        self._database.execute("COMMIT")

    def _new_record(self) -> str:
        """Return another one each time: SQLite spares a page in which nothing has changed."""
        self._commits += 1
        return f"{self._commits:0{RECORD_CHARACTERS}}"

    def close(self) -> None:
        self._database.close()


class SharedLink(Link):
    """A link to the peer on which all of them travel; `receive` gives what is the node's."""

    def __init__(self, link: Link, role: Role, disk: BareDisk) -> None:
        self.peer, self.mtu, self.traits = link.peer, link.mtu, link.traits
        self._link, self._disk = link, disk
        config = SessionConfig(Durability.EVERY_W)
        self._session = Session.start(Profile.HARDENED, role, bytes(32), config, EndpointContext(os.urandom))
        self._answered = asyncio.Event()
        self.ended = asyncio.Event()

    async def send(self, data: bytes) -> None:
        await self._link.send(data)

    def send_now(self, data: bytes) -> bool:
        return self._link.send_now(data)

    async def receive(self) -> bytes:
        while True:
            data = await self._link.receive()
            if data[:1] == ECHO:
                await self._link.send(ANSWER.ljust(ACK_FRAME_BYTES, b"."))
            elif data[:1] == DISK:
                self._disk.commit()
                await self._link.send(ANSWER.ljust(ACK_FRAME_BYTES, b"."))
            elif data[:1] == ANSWER:
                self._answered.set()
            elif data[:1] == CORE:
                self._session.receive_frame(data[1:], time.monotonic())
                await self._serve()
            elif data[:1] == GOODBYE:
                self.ended.set()
            else:
                return data

    async def _serve(self) -> None:
        while (event := self._session.next_event()) is not None:
            if isinstance(event, MessageDelivered):
                self._answered.set()
            if isinstance(event, StateChanged):
                self._session.persisted(event.token)
        for frame in self._session.frames_to_send(time.monotonic()):
            await self._link.send(CORE + frame)

    async def close(self) -> None:
        await self._link.close()

    async def echo(self) -> None:
        """There and back."""
        self._answered.clear()
        await self._link.send(ECHO.ljust(DATA_FRAME_BYTES, b"."))
        await self._answered.wait()

    async def echo_from_disk(self) -> None:
        """There and back, and at each end on the disk before it leaves."""
        self._answered.clear()
        self._disk.commit()
        await self._link.send(DISK.ljust(DATA_FRAME_BYTES, b"."))
        await self._answered.wait()

    async def round(self) -> None:
        """A message there, its acknowledgement back."""
        self._answered.clear()
        self._session.send(MESSAGE, time.monotonic())
        await self._serve()
        await self._answered.wait()


class OneLink(Bearer, Listener):
    """Gives the link that there is, to whoever dials or listens first."""

    name = "rfcomm"

    def __init__(self, link: SharedLink) -> None:
        self.traits = link.traits
        self._links: asyncio.Queue[Link] = asyncio.Queue()
        self._links.put_nowait(link)

    def open(self, name: str) -> Bearer:
        return self

    async def connect(self, peer: str) -> Link:
        return await self._links.get()

    async def listen(self) -> Listener:
        return self

    async def accept(self) -> Link:
        return await self._links.get()

    async def close(self) -> None:
        pass


async def main(own: str, peer: str, address: str, durability: str, blocks: int) -> None:
    dials = own < peer
    bearer = open_bearer("rfcomm")
    first = await (dial(bearer, address) if dials else (await bearer.listen()).accept())
    shutil.rmtree(PLACE, ignore_errors=True)
    disk = BareDisk(PLACE)
    link = SharedLink(first, Role.INITIATOR if dials else Role.RESPONDER, disk)
    config = node_config(own, peer, address, durability, PLACE)
    node = Node(config, OneLink(link), adapter_address("hci0"))
    await node.start()
    if dials:
        while node.peers()[0]["state"] != "connected":
            await asyncio.sleep(0.1)
        print(json.dumps(await measure(node, peer, link, blocks)))
        await link.send(GOODBYE)
    else:
        await link.ended.wait()
    await node.stop()
    await bearer.close()
    disk.close()


async def dial(bearer: Bearer, address: str) -> Link:
    """Until the other listens."""
    while True:
        try:
            return await bearer.connect(address)
        except BearerError as error:
            if not error.transient:
                raise
            await asyncio.sleep(1)


async def measure(node: Node, peer: str, link: SharedLink, blocks: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"echo": [], "disk": [], "session": [], "node": []}
    for _ in range(blocks):
        for way, once in (
            ("echo", link.echo),
            ("disk", link.echo_from_disk),
            ("session", link.round),
            ("node", lambda: node.send(peer, MESSAGE, until="acknowledged")),
        ):
            for _ in range(ROUNDS):
                began = time.perf_counter()
                await once()
                seconds[way].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))
