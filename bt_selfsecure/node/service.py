"""The node: one adapter, its listeners, its peers, the local API; all of what the daemon does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Literal, Protocol

from bt_selfsecure import __version__
from bt_selfsecure.bearers.base import Bearer, Link
from bt_selfsecure.bearers.specs import open_bearer, parse_spec
from bt_selfsecure.core.establish import EstablishConfig
from bt_selfsecure.core.events import Established, EstablishFailed
from bt_selfsecure.core.frames import Profile
from bt_selfsecure.core.recovery import Durability
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.adapter import AdapterKeeper, AdapterState
from bt_selfsecure.node.api import Api
from bt_selfsecure.node.config import (
    Config,
    PeerTable,
    address_bytes,
    authentication_key,
    bearer_spec,
    establish_config,
    session_config,
)
from bt_selfsecure.node.discovery import Discovery
from bt_selfsecure.node.errors import UnknownPeerError
from bt_selfsecure.node.inbox import Inbox, Received
from bt_selfsecure.node.journal import Journal, JournalError
from bt_selfsecure.node.notify import notify, watchdog_seconds
from bt_selfsecure.node.peer import FIRST_RETRY, LAST_RETRY, Peer

log = logging.getLogger(__name__)

COMMIT_SECONDS: Final = 1.0
"""What may be lazy is on disk within so long."""
BEAT_SECONDS: Final = 10.0
"""Between two looks at the node's own health, where systemd does not ask for more."""
FRAME_BYTES: Final = {"l2cap": 335, "ipsp": 1232}
"""Longest frame of a session by bearer: one baseband packet, one IPv6 packet. Elsewhere the core's own limit rules."""


class Media(Protocol):
    """Where bearers come from: the kernel, or a test's memory."""

    def open(self, name: str) -> Bearer: ...


class KernelMedia:
    """Bearers on the configured adapter."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, name: str) -> Bearer:
        table = (
            self._config.session.bearer if _name(self._config.session.bearer) == name else self._config.establish.bearer
        )
        return open_bearer(
            bearer_spec(self._config, table),
            pair=self._config.rfcomm.pair,
            flush_timeout_slots=self._config.l2cap.flush_timeout_slots,
        )


class Node:
    """Between `start` and `stop` it does its work; `peer.Surroundings` and `api.NodeApi` are what it offers.

    With `media` and `address` it runs on those; without, on the configured adapter, whose coming and going it follows.
    """

    def __init__(self, config: Config, media: Media | None = None, address: str | None = None) -> None:
        self._config = config
        self._media = media or KernelMedia(config)
        self._fixed_address = address
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self.session_config = session_config(config)
        self.session_bearer = _name(config.session.bearer)
        self.establish_bearer = _name(config.establish.bearer)
        self.queue_messages = config.node.queue_messages
        self.renew_hours = config.establish.renew_after_hours
        self.renew_messages = config.establish.renew_after_messages
        self._durable_first = self.session_config.durability is Durability.EVERY_MESSAGE
        self._keys = {peer.address: authentication_key(peer) for peer in config.peer}
        self.fragment_bytes = _fragment_bytes(config)
        self._own: str | None = None
        self._bearers: dict[str, Bearer] = {}
        self._troubles: dict[str, str] = {}
        self._peers: dict[str, Peer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._commit_timer: asyncio.TimerHandle | None = None
        self._keeper: AdapterKeeper | None = None
        self._discovery: Discovery | None = None
        self._changing = asyncio.Lock()
        self.journal = Journal(config.node.state_directory, sync_each=self._durable_first)
        self._inbox = Inbox(self.journal, config.node.queue_messages, self._name_of)
        self._api = Api(self, config)

    async def start(self) -> None:
        """Serve the local API, and bring up what the adapter allows. Raises `UsageError`."""
        try:
            await self._api.start()
        except BaseException:
            self.journal.close()
            raise
        if self._fixed_address:
            await self._begin(self._fixed_address)
            return
        self._keeper = AdapterKeeper(
            self._config.node.adapter, adapter_up=self._on_adapter_up, adapter_gone=self._on_adapter_gone
        )
        await self._keeper.start()
        if self._keeper.state is not AdapterState.UP:
            log.warning("%s is %s; waiting for it", self._config.node.adapter, self._keeper.state.value)

    async def stop(self) -> None:
        """All is closed, what was lazy is on disk."""
        await self._api.stop()
        if self._keeper:
            await self._keeper.stop()
        await self._end()
        if self._commit_timer:
            self._commit_timer.cancel()
        with contextlib.suppress(JournalError):
            self.journal.commit(sync=True)
        self.journal.close()

    # --- the adapter's comings and goings

    def _on_adapter_up(self, address: str) -> None:
        self._spawn("adapter", self._begin(address))

    def _on_adapter_gone(self, state: AdapterState) -> None:
        log.warning("%s is %s", self._config.node.adapter, state.value)
        self._spawn("adapter", self._end())

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def _begin(self, address: str) -> None:
        """The adapter works: listen, dial, be seen."""
        async with self._changing:
            if self._own is not None:
                return
            log.info("%s works, its address is %s", self._config.node.adapter, address)
            self._own = address.upper()
            for bearer in sorted({self.session_bearer, self.establish_bearer}):
                if bearer != "le_advert":
                    self._spawn(f"listen {bearer}", self._listen(bearer))
            for table in self._config.peer:
                self._add_peer(table.name, table.address, table.dial)
            for kept in self.journal.addresses():
                if kept not in self._peers and self._config.node.accept == "anyone":
                    self._add_peer(kept, kept, "auto")
            await self._discover()

    async def _end(self) -> None:
        async with self._changing:
            self._own = None
            ended = [name for name in self._tasks if name != "adapter"]
            for name in ended:
                self._tasks[name].cancel()
            await asyncio.gather(*(self._tasks.pop(name) for name in ended), return_exceptions=True)
            self._peers.clear()
            if self._discovery:
                await self._discovery.stop()
                self._discovery = None
            for bearer in self._bearers.values():
                with contextlib.suppress(BtSelfSecureError):
                    await bearer.close()
            self._bearers.clear()

    async def _discover(self) -> None:
        table = self._config.discovery
        if self._fixed_address or not (table.advertise or table.scan):
            return
        self._discovery = Discovery(
            adapter=self._config.node.adapter,
            name=self._config.node.name,
            profile=Profile[self._config.establish.profile.upper()],
            advertise=table.advertise,
            scan=table.scan,
            scan_interval_s=table.scan_interval_s,
            peers=[peer.address for peer in self._config.peer],
            on_sighting=self._on_sighting,
        )
        await self._discovery.start()

    def _on_sighting(self, address: str) -> None:
        if peer := self._peers.get(address):
            peer.sighted()

    # --- peers

    def _add_peer(self, name: str, address: str, dial: str) -> Peer:
        peer = Peer(self, name, address, self._own or "", dial)
        self._peers[address] = peer
        self._spawn(f"peer {address}", self._supervise(peer, dial))
        return peer

    async def _supervise(self, peer: Peer, dial: str) -> None:
        """A fault in one peer's handling is logged, and this peer begun anew from the journal; the others go on."""
        wait = FIRST_RETRY
        while True:
            try:
                await peer.run()
            except Exception:
                log.exception("%s: a fault of this program, please report it; starting anew with this peer", peer.name)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LAST_RETRY)
            self._commit()
            peer = Peer(self, peer.name, peer.address, self._own or "", dial)
            self._peers[peer.address] = peer

    def _on_link(self, bearer: str, link: Link) -> bool:
        """Whether the link is welcome."""
        peer = self._peers.get(link.peer)
        if peer is None and self._config.node.accept == "anyone":
            self._forget_idle_strangers()
            if len(self._peers) < self._config.node.max_links:
                peer = self._add_peer(link.peer, link.peer, "never")
        if peer is None or sum(len(other.links) for other in self._peers.values()) >= self._config.node.max_links:
            return False
        peer.attach(bearer, link)
        return True

    def _forget_idle_strangers(self) -> None:
        known = {table.address for table in self._config.peer}
        for address, peer in list(self._peers.items()):
            if address not in known and peer.is_idle:
                del self._peers[address]
                self._tasks.pop(f"peer {address}").cancel()

    # --- bearers

    async def _bearer(self, name: str) -> Bearer:
        if name not in self._bearers:
            self._bearers[name] = self._media.open(name)
        return self._bearers[name]

    async def _listen(self, name: str) -> None:
        wait = FIRST_RETRY
        while True:
            try:
                listener = await (await self._bearer(name)).listen()
                self._troubles.pop(name, None)
                wait = FIRST_RETRY
                try:
                    while True:
                        link = await listener.accept()
                        if not self._on_link(name, link):
                            log.info("a link of %s is refused: no peer of ours, or too many links", link.peer)
                            await link.close()
                finally:
                    await listener.close()
            except BtSelfSecureError as error:
                if self._troubles.get(name) != str(error):
                    log.warning("%s: %s", name, error)
                self._troubles[name] = str(error)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LAST_RETRY)

    # --- what a peer needs

    def establish_config(self, address: str) -> EstablishConfig:
        return establish_config(self._config, address_bytes(self._own or ""), self._keys.get(address, b""))

    async def connect(self, bearer: str, address: str) -> Link:
        return await (await self._bearer(bearer)).connect(address)

    async def take_radio(self, address: str) -> Link:
        if self._discovery:
            await self._discovery.pause()
        try:
            return await (await self._bearer("le_advert")).connect(address)
        except BaseException:
            if self._discovery:
                await self._discovery.resume()
            raise

    async def free_radio(self, link: Link) -> None:
        await link.close()
        if self._discovery:
            await self._discovery.resume()

    def receive(self, address: str, port: int, message: bytes) -> None:
        self._inbox.put(address, port, message, durable_first=self._durable_first)

    def inbox_has_room(self, address: str) -> bool:
        return self._inbox.has_room(address)

    def commit_later(self) -> None:
        if self._commit_timer is None:
            self._commit_timer = asyncio.get_running_loop().call_later(COMMIT_SECONDS, self._commit)

    def _commit(self) -> None:
        self._commit_timer = None
        try:
            self.journal.commit()
        except JournalError as error:
            log.error("%s", error)
            self.commit_later()

    def rests_on(self, losses_visible: bool) -> str:
        bound = (
            f"an eavesdropper misses at least {self._config.establish.eve_loss_bound:.3g} of what the responder hears"
        )
        if losses_visible:
            return f"On losses that both ends saw, and on this (configured): {bound}."
        return (
            f"On the eavesdropper's misses alone: {self.establish_bearer} hides losses from the responder. "
            f"Configured: {bound}."
        )

    # --- what the local API offers

    async def send(
        self, peer: str, message: bytes, *, port: int = 0, until: Literal["durable", "acknowledged"] = "durable"
    ) -> int:
        number, delivered = await self._peer(peer).send(message, port)
        if until == "acknowledged":
            await delivered
        return number

    def inbox(self, peer: str | None, port: int, *, follow: bool = True) -> AsyncGenerator[Received, None]:
        return self._inbox.stream(self._peer(peer).address if peer else None, port, follow=follow)

    def acknowledge(self, number: int) -> None:
        if self._inbox.acknowledge(number):
            if self._durable_first:
                self.journal.commit()
            else:
                self.commit_later()

    async def establish(self, peer: str) -> dict[str, Any]:
        found = self._peer(peer)
        match await found.establish():
            case Established():
                key = found.status()["key"]
                return {"established": True, "peer": found.name, "reason": ""} | key
            case EstablishFailed() as failed:
                return {"established": False, "peer": found.name, "reason": failed.detail or failed.reason.value}

    async def scan(self, seconds: float) -> list[dict[str, Any]]:
        if self._discovery is None:
            raise BtSelfSecureError("there is no adapter to scan with, or [discovery] is off in the configuration")
        return [
            {
                "address": sighting.address,
                "name": sighting.name or None,
                "rssi": sighting.rssi,
                "peer": self._peers[sighting.address].name if sighting.address in self._peers else None,
                "profile": sighting.profile,
                "version": sighting.version,
            }
            for sighting in await self._discovery.scan(seconds)
        ]

    def status(self) -> dict[str, Any]:
        problems = self._problems()
        return {
            "version": __version__,
            "name": self._config.node.name,
            "address": self._own,
            "adapter": self._config.node.adapter,
            "uptime_s": self._clock() - self._began,
            "healthy": not problems,
            "problems": problems,
            "peers": self.peers(),
        }

    def peers(self) -> list[dict[str, Any]]:
        return [self._peer_status(peer) for peer in self._peers.values()] or [
            self._absent(table) for table in self._config.peer
        ]

    def _peer_status(self, peer: Peer) -> dict[str, Any]:
        sighting = self._discovery.sightings.get(peer.address) if self._discovery else None
        queues = {
            "outbox": peer.outbox_messages,
            "inbox": self._inbox.count(peer.address),
            "limit": self._config.node.queue_messages,
        }
        seen = {"rssi": sighting.rssi if sighting else None, "last_seen": peer.last_heard}
        return peer.status() | seen | {"queues": queues}

    def _absent(self, table: PeerTable) -> dict[str, Any]:
        """While there is no adapter."""
        return {
            "name": table.name,
            "address": table.address,
            "state": "no adapter",
            "trouble": "",
            "link": None,
            "key": None,
            "session": None,
            "queues": {
                "outbox": 0,
                "inbox": self._inbox.count(table.address),
                "limit": self._config.node.queue_messages,
            },
            "rejections": {},
            "rssi": None,
            "last_seen": None,
            "progress": None,
        }

    def _problems(self) -> list[str]:
        adapter = self._keeper.trouble if self._keeper and self._own is None else ""
        if self._keeper and self._own is None and not adapter:
            adapter = f"{self._config.node.adapter} is {self._keeper.state.value}: see bt-selfsecure doctor"
        found = [adapter, self.journal.trouble, *(f"{name}: {text}" for name, text in self._troubles.items())]
        return [problem for problem in found if problem]

    def _peer(self, name: str) -> Peer:
        for peer in self._peers.values():
            if name == peer.name or name.upper() == peer.address:
                return peer
        if self._own is None and self._config.find_peer(name):
            raise BtSelfSecureError(f"{self._config.node.adapter} does not work now: see bt-selfsecure doctor")
        raise UnknownPeerError(f"there is no peer {name[:64]!r}: see `bt-selfsecure peers`")

    def _name_of(self, address: str) -> str:
        table = self._config.find_peer(address)
        return table.name if table else address


def _name(bearer: str) -> str:
    return parse_spec(bearer).name


def _fragment_bytes(config: Config) -> int:
    """Of a message that fits a frame of the session's bearer."""
    from bt_selfsecure.core import limits
    from bt_selfsecure.core.frames import encode
    from bt_selfsecure.core.keychain import Chain
    from bt_selfsecure.core.suites import SUITES

    suite = SUITES[Profile[config.establish.profile.upper()]]
    frame, _ = Chain.start(suite, bytes(limits.KEY_BYTES), b"", 1).seal(b"", 0, bytes)
    longest = FRAME_BYTES.get(_name(config.session.bearer), limits.MAX_FRAME_BYTES)
    return min(limits.MAX_MESSAGE_BYTES, longest - len(encode(frame)))


async def run_node(config: Config) -> int:
    """The daemon: until cancelled. Raises `UsageError` for what a person must mend first."""
    node = Node(config)
    try:
        await node.start()
        notify(READY=1, STATUS="listening")
        await _beat(node.status)
    finally:
        notify(STOPPING=1)
        await node.stop()
    return 0


async def _beat(status: Callable[[], dict[str, Any]]) -> None:
    """Tell systemd that the loop turns and the node can say how it is: one that hangs is restarted."""
    asked = watchdog_seconds()
    every = min(BEAT_SECONDS, asked / 2) if asked else BEAT_SECONDS
    while True:
        told = status()
        connected = sum(peer["session"] is not None and peer["link"] is not None for peer in told["peers"])
        text = told["problems"][0] if told["problems"] else f"{connected} of {len(told['peers'])} peers connected"
        notify(WATCHDOG=1, STATUS=text)
        await asyncio.sleep(every)
