"""Nodes that really keep and hand over messages, without a radio: API, client and commands are run on them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node import ages
from bt_selfsecure.node.api import Api
from bt_selfsecure.node.api_operations import Until
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import Config, NodeTable
from bt_selfsecure.node.errors import MessageTooLongError, QueueFullError, UnknownGroupError, UnknownPeerError
from bt_selfsecure.node.haoxiao.confirmation import is_same_string
from bt_selfsecure.node.messages import Received

T = TypeVar("T")
SECRET = "00c0ffee" * 8
MOST_BYTES = 1 << 20


class LoopbackGroups:
    """The groups of a `LoopbackNode`: what is sent to one is at its members at once."""

    def __init__(self, node: LoopbackNode) -> None:
        self._node = node

    def status(self) -> list[dict[str, Any]]:
        return [self._told(name) for name in self._node.groups]

    def _told(self, name: str) -> dict[str, Any]:
        names = ("sent", "fragments", "letters", "received", "repaired", "rejected")
        number = self._node.sent_to_groups
        members = [{"peer": one, "state": "current", "acknowledged": number} for one in self._node.groups[name]]
        return {
            "name": name,
            "own": True,
            "owner": self._node.name,
            "epoch": 1,
            "number": number,
            "secret_bits": 131.4,
            "members": members,
            "waiting": 0,
            "counts": dict.fromkeys(names, 0),
        }

    async def create(self, name: str, peers: list[str]) -> dict[str, Any]:
        self._node.groups[name] = [self._node._find(peer).name for peer in peers]
        return self._told(name)

    async def change(self, name: str, add: list[str], remove: list[str]) -> dict[str, Any]:
        self._find(name)
        self._node.groups[name] = [one for one in [*self._node.groups[name], *add] if one not in remove]
        return self._told(name)

    def send(self, name: str, message: bytes) -> int:
        self._find(name)
        if len(message) > 200:
            raise MessageTooLongError("a message to a group has at most 200 bytes")
        self._node.sent_to_groups += 1
        return self._node.sent_to_groups - 1

    def delete(self, name: str) -> None:
        self._find(name)
        del self._node.groups[name]

    def leave(self, name: str) -> None:
        raise UnknownGroupError(f"this node is no member of a group {name!r}: see bt-selfsecure group status")

    def _find(self, name: str) -> None:
        if name not in self._node.groups:
            raise UnknownGroupError(f"this node owns no group {name!r}: see bt-selfsecure group status")


class LoopbackNode:
    """Hands messages to the nodes that it was joined with, at once, unless they are `away`."""

    def __init__(self, name: str, address: str, limit: int = 100) -> None:
        self.name = name
        self.address = address
        self.limit = limit
        self.away = False
        self.problems: list[str] = []
        self.known: dict[str, LoopbackNode] = {}
        self.kept: dict[int, Received] = {}
        self.establishing: str | None = None
        self.establishing_s = 0.02
        self.established = 0
        self.groups: dict[str, list[str]] = {}
        """Names of their members."""
        self.sent_to_groups = 0
        self.under_way = self.most_under_way = 0
        """Establishments at the same time."""
        self.nowhere = 0
        self.refused = 0
        self.refused_why = "too soon"
        self.differed_by: str | None = None
        self.sent = 1200
        """Packets of the burst under way."""
        self.profile = "hardened"
        self.trouble = ""
        """With a peer that is there."""
        self.confirmed: dict[str, str] = {}
        """By whom, a peer's name."""
        self.shown = 0
        """Newest message that a reader was shown."""
        self._newest = 0
        self._changed = asyncio.Condition()

    def join(self, other: LoopbackNode) -> None:
        self.known[other.name], other.known[self.name] = other, self

    @property
    def group_wishes(self) -> LoopbackGroups:
        return LoopbackGroups(self)

    def status(self) -> dict[str, Any]:
        return {
            "version": "0.0.0",
            "name": self.name,
            "address": self.address,
            "adapter": "hci0",
            "uptime_s": 3723.0,
            "healthy": not self.problems,
            "problems": self.problems,
            "discovery": None,
            "journal": {"commits": 42, "seconds": 0.21, "slowest_s": 0.0125},
            "relay": None,
            "peers": self.peers(),
            "groups": self.group_wishes.status(),
        }

    def peers(self) -> list[dict[str, Any]]:
        return [self._peer(other) for other in self.known.values()]

    def _peer(self, other: LoopbackNode) -> dict[str, Any]:
        waiting = sum(message.peer == other.name for message in self.kept.values())
        connected = not other.away
        return {
            "name": other.name,
            "address": other.address,
            "state": "establishing" if self.establishing == other.name else "connected" if connected else "away",
            "trouble": "the peer is off or out of range: it is tried again" if other.away else self.trouble,
            "link": {
                "bearer": "rfcomm",
                **ages.told(60.0),
                "losses_visible": False,
                "encrypted": True,
                "path": [],
                "second_path": [],
                "round_trip_s": None,
            }
            if connected
            else None,
            "key": self.key(other) if self.established else None,
            "session": {"profile": self.profile, "sent": 1204, "received": 88, "epoch": 0}
            if self.established
            else None,
            "queues": {"outbox": 0, "inbox": waiting, "limit": self.limit},
            "counts": {
                "rounds_out": 1204,
                "rounds_in": 88,
                "frames": 1304,
                "retransmissions": 100,
                "resynchronisations": 2,
                "establishments": self.established,
                "failed_establishments": 0,
                "links": 1,
                "dropped": 0,
                "keys_from_nowhere": self.nowhere,
                "refused_keys": 0,
            },
            "trust": {
                "confirmed": "string" if self.confirmed.get(other.name) else None,
                "by": self.confirmed.get(other.name, ""),
                "confirmed_age_s": None,
                "confirmed_since": None,
                "differed_by": self.differed_by,
                "differed_age_s": None if self.differed_by is None else 86_400.0,
                "differed_since": None if self.differed_by is None else 1_777_809_600.0,
                "first_age_s": 86_400.0,
                "first_since": ages.told(86_400.0)["since"],
                "keys_from_nowhere": self.nowhere,
                "shared_key": False,
                "refused": self.refused,
                "refused_why": self.refused_why if self.refused else None,
                "refused_age_s": 60.0 if self.refused else None,
                "refused_since": None,
            },
            "rejections": {"not made with the key": 3} if self.established else {},
            "rssi": -61 if connected else None,
            "silent_s": 4.0 if connected else None,
            "last_seen": ages.told(4.0)["since"] if connected else None,
            "progress": {"sent": self.sent, "heard": None, "needed": 1730} if self.establishing else None,
        }

    def key(self, other: LoopbackNode) -> dict[str, Any]:
        return {
            "fingerprint": f"ab12-{other.name}",
            "secret_bits": 139.2,
            "target_bits": 128.0,
            "sent": 3200,
            "received": 2713,
            "sas": "123 456 (apple river stone moon)",
            "authenticated": False,
            "continuity": True,
            "hybrid": True,
            "bearer": "rfcomm",
            "own_address": self.address,
            **ages.told(7200.0),
            "shared": [],
            "rests_on": "Eve's misses alone, at least 5 % as configured: rfcomm hides its losses from the responder.",
        }

    def _find(self, peer: str) -> LoopbackNode:
        for other in self.known.values():
            if peer == other.name or peer.upper() == other.address:
                return other
        raise UnknownPeerError(f"there is no peer {peer[:64]!r}: see `bt-selfsecure peers`")

    async def send(self, peer: str, message: bytes, *, port: int = 0, until: Until = "durable") -> int:
        other = self._find(peer)
        if len(message) > MOST_BYTES:
            raise MessageTooLongError("too long")
        if len(other.kept) >= other.limit:
            raise QueueFullError(f"{self.limit} messages wait for {other.name}: try again when it has some of them")
        number = other._newest = other._newest + 1
        other.kept[number] = Received(number, self.name, port, time.time(), message)
        async with other._changed:
            other._changed.notify_all()
        if other.away and until == "acknowledged":
            await asyncio.Event().wait()
        return number

    async def inbox(self, peer: str | None, port: int, *, follow: bool = True) -> AsyncGenerator[Received, None]:
        shown = 0
        while True:
            seen = self._newest
            for message in list(self.kept.values()):
                if message.id > shown and message.port == port and peer in (None, message.peer):
                    shown = self.shown = message.id
                    yield message
            if not follow:
                return
            async with self._changed:
                while self._newest == seen:
                    await self._changed.wait()

    def acknowledge(self, number: int) -> None:
        self.kept.pop(number, None)

    async def establish(self, peer: str, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        other = self._find(peer)
        if other.away:
            return {"established": False, "peer": other.name, "reason": "nobody accepted the request"}
        self.establishing = other.name
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.establishing_s)
        self.under_way -= 1
        self.establishing = None
        self.established += 1
        return {"established": True, "peer": other.name, "profile": self.profile, "reason": ""} | self.key(other)

    def confirm(self, peer: str, string: str, by: str) -> dict[str, Any]:
        other = self._find(peer)
        same = bool(string) and is_same_string(string, self.key(other)["sas"])
        self.confirmed[other.name] = by if same else self.confirmed.get(other.name, "")
        return {"confirmed": same, "peer": other.name, "reason": "" if same else "the strings differ"}

    async def scan(self, seconds: float) -> list[dict[str, Any]]:
        if self.problems:
            raise BtSelfSecureError("the adapter is off: bluetoothctl power on")
        await asyncio.sleep(0.01)
        return [
            {"address": "B8:27:EB:00:00:09", "name": "\x1b[31mred", "rssi": -80, "peer": None, "profile": None,
             "version": None},
            {"address": "B8:27:EB:00:00:08", "name": None, "rssi": None, "peer": None, "profile": "paper",
             "version": 1},
            *({"address": other.address, "name": other.name, "rssi": -61, "peer": other.name, "profile": "hardened",
               "version": 1} for other in self.known.values()),
        ]  # fmt: skip


class Server:
    """APIs on an event loop of their own, so that tests can block as the commands do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.apis: dict[str, Api] = {}

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def socket(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    def config(self, name: str) -> Config:
        return Config(node=NodeTable(socket=self.socket(name)))

    def serve(self, node: LoopbackNode) -> NodeClient:
        self.apis[node.name] = Api(node, self.config(node.name))
        self.wait(self.apis[node.name].start())
        return NodeClient(self.socket(node.name))

    def stop(self, name: str) -> None:
        self.wait(self.apis.pop(name).stop())

    def close(self) -> None:
        for name in list(self.apis):
            self.stop(name)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
