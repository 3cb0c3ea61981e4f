"""Runs the node: one adapter, its listeners, its peers, the local API; `daemon.py` starts it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import asdict
from functools import partial
from typing import Any, Final, Literal, cast

from bt_selfsecure import __version__
from bt_selfsecure.bearers.base import Link
from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.node import api_peer_types, api_types, told
from bt_selfsecure.node.adapter import AdapterState, AdapterSupervisor
from bt_selfsecure.node.api import Api
from bt_selfsecure.node.card import Card
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.erasing import Eraser
from bt_selfsecure.node.haoxiao.bursts import Bursts
from bt_selfsecure.node.haoxiao.group_wishes import GroupWishes
from bt_selfsecure.node.haoxiao.groups import Groups
from bt_selfsecure.node.haoxiao.peer import HaoXiaoPeer
from bt_selfsecure.node.haoxiao.relay import MediaWithRelay, NodeRelay
from bt_selfsecure.node.haoxiao.settings import PROFILES, RELAY, Settings
from bt_selfsecure.node.inbox import Inbox
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.node.lazy_commits import LazyCommits
from bt_selfsecure.node.media import Bearers, KernelMedia, Media, bearer_name
from bt_selfsecure.node.message_limits import GROUP_PORT
from bt_selfsecure.node.messages import Received
from bt_selfsecure.node.nearby import Nearby
from bt_selfsecure.node.paired import lost_keys
from bt_selfsecure.node.pairing.adoption import Adoption
from bt_selfsecure.node.pairing.desk import PairingDesk
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.node.peers import Peers
from bt_selfsecure.node.tasks import NamedTasks

log = logging.getLogger(__name__)

END_S: Final = 3.0
"""Links and adapter have so long to be closed when the node stops."""


class Node:
    """Does its work between `start` and `stop`; `haoxiao.context.NodeContext` and `node_api.NodeApi` say what it
    offers.

    With `media` and `address` it runs on those; without, as configured: on UDP, or on an adapter, whose coming and
    going it follows. Peers, their queues and the local API are there whether the adapter is or not.
    """

    def __init__(self, config: Config, media: Media | None = None, address: str | None = None) -> None:
        """Raises `UsageError` for a configuration or a state directory that can't be used, `JournalError` where that
        may pass."""
        self._config = config
        self._fixed_address = address or config.node.address or None
        self._medium = config.node.adapter if config.needs_adapter else f"udp {config.udp.listen}"
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        place = config.node.state_directory
        self.settings = Settings(config, lost_keys(place, config.peer))
        self._session_bearer = bearer_name(config.session.bearer)
        self._establish_bearer = bearer_name(config.establish.bearer)
        self._own: str | None = None
        self.known = known = KnownPeers(config)
        self.bursts = Bursts()
        self._peers = Peers(self, partial(HaoXiaoPeer, self), known, config.node.max_links)
        medium = media or KernelMedia(config, known, lambda: self.adapter, lambda: self._own, self._peers.has_link)
        self._relay = NodeRelay(config, self._peers)
        self._bearers = Bearers(MediaWithRelay(medium, self._relay), self._on_link)
        self._tasks = NamedTasks()
        self._keeper: AdapterSupervisor | None = None
        self._nearby = Nearby(config, self.settings.profile, PROFILES, known, self._on_sighting)
        self._changing = asyncio.Lock()
        durable_first = self.settings.durable_first
        self._lazy = LazyCommits(lambda: self.journal)
        self.journal: Journal = Journal(
            place, sync_each=durable_first, told=self._on_disk, peers=known, clock=self._clock
        )
        self._eraser = Eraser(self.journal, config.session.checkpoint_rounds)
        self._card = Card(place, self.journal, self._peers, known)
        self._inbox = Inbox(
            self.journal, config.node.queue_messages, self._name_of, known=known, durable_first=durable_first
        )
        parts = (place, known, self._peers, self.settings, self.journal, self._inbox, self._bearers)
        self._adoption = Adoption(*parts, self._nearby)
        self.pairing = PairingDesk(self._adoption, config, lambda: self._own)
        self.groups = Groups(self)
        self.group_wishes = GroupWishes(self, self.groups, self._peers, known)
        self._api = Api(self, config)

    async def start(self) -> None:
        """Serve the local API, and bring up what the adapter allows. Raises `UsageError`; `stop` it then, too."""
        for text in self._card.lost_keys():
            log.error("%s", text)
        await self._api.start()
        self._eraser.begin()
        self.groups.start()
        for table in self.known.values():
            self._peers.begin(table.name, table.address, table.dial)
        if self._config.node.accept == "anyone":
            for address in self.journal.addresses():
                if address not in self._peers and len(self._peers) < self._config.node.max_links:
                    self._peers.begin(address, address, "never")
        if self._fixed_address:
            await self._begin(self._fixed_address)
            return
        self._keeper = AdapterSupervisor(
            self._config.node.adapter,
            former=next((peer.own_address for peer in self._peers.values() if peer.own_address), ""),
            bearers=(self._session_bearer, self._establish_bearer),
            adapter_up=self._on_adapter_up,
            adapter_gone=self._on_adapter_gone,
        )
        await self._keeper.start()
        if self._keeper.state is not AdapterState.UP:
            log.warning("%s is %s; waiting for it", self.adapter, self._keeper.state.value)

    async def stop(self) -> None:
        """Close everything; what was lazy is on disk then."""
        await self._api.stop()
        await self.pairing.stop()
        self._lazy.stop()
        self._lazy.commit_now()
        try:
            async with asyncio.timeout(END_S):
                if self._keeper:
                    await self._keeper.stop()
                await self._tasks.cancel("adapter ")
                await self._end()
                await self.bursts.stop()
                await self.groups.stop()
                await self._peers.stop()
                await self._tasks.cancel()
        except TimeoutError:
            log.error("links and adapter were not closed within %g s", END_S)
        self._lazy.commit_now()
        self._eraser.stop()
        self.journal.close()

    # --- the adapter's comings and goings

    @property
    def adapter(self) -> str:
        """Return the adapter's name, as in hci0, or what there is in its place; as configured where there is no such
        adapter."""
        return self._keeper.name if self._keeper else self._medium

    @property
    def own(self) -> str | None:
        return self._own

    def _on_adapter_up(self, address: str) -> None:
        self._tasks.begin("adapter up", self._begin(address))

    def _on_adapter_gone(self, state: AdapterState) -> None:
        log.warning("%s is %s", self.adapter, state.value)
        self._tasks.begin("adapter gone", self._end())

    async def _begin(self, address: str) -> None:
        """The adapter works: listen, dial, be seen."""
        async with self._changing:
            if self._own is not None:
                return
            log.info("%s works, its address is %s", self.adapter, address)
            if self.settings.no_radio:
                log.warning("%s: whoever reads the network misses nothing of what makes a key", self.settings.no_radio)
            self._own = address.upper()
            if moved := self._card.moved(self._own, self._nearby.sightings):
                log.warning("%s", moved)
            self._relay.begin(self._own)
            bearers = {self._session_bearer, self._establish_bearer} - {"le_advert"}
            self._bearers.listen(bearers | {RELAY} if self._relay.is_used else bearers)
            for peer in self._peers.values():
                peer.adapter_up()
            if not self._fixed_address:
                await self._nearby.begin(self.adapter)

    async def _end(self) -> None:
        async with self._changing:
            self._own = None
            for peer in self._peers.values():
                await peer.adapter_gone()
            await self._nearby.end()
            await self._bearers.close()
            self._relay.end()

    def _on_sighting(self, address: str) -> None:
        if peer := self._peers.get(address):
            peer.sighted()

    # --- peers

    def _on_link(self, bearer: str, link: Link) -> bool:
        """Whether the link is welcome."""
        table = self._config.find_peer(link.peer)
        if table and bool(table.via) is not (bearer == RELAY):
            return False  # whoever calls directly is not who is reached through others
        if link.peer not in self._peers:
            if self.pairing.take_stranger(bearer, link):
                return True
            if self._config.node.accept != "anyone" or not self._peers.make_room():
                return False
            try:
                peer = self._peers.begin(link.peer, link.peer, "never")
            except JournalError:  # the disk gives nothing: he may call again
                return False
            peer.begin_with(bearer, link, dialled=False)
            return True
        may = self._peers.may_link(link.peer)
        return may and self._peers[link.peer].attach(bearer, self.pairing.for_peer(bearer, link))

    # --- what a peer needs

    async def connect(self, bearer: str, address: str) -> Link:
        return self.pairing.for_peer(bearer, await self._bearers.connect(bearer, address))

    @contextlib.asynccontextmanager
    async def radio(self, address: str) -> AsyncGenerator[Link, None]:
        async with self._nearby.paused():
            link = await self._bearers.connect("le_advert", address)
            try:
                yield link
            finally:
                await link.close()

    def connected(self, address: str, is_so: bool) -> None:
        self._relay.connected(address, is_so)

    def receive(self, address: str, port: int, message: bytes, now: float) -> None:
        if port == self._relay.port:
            return self._relay.receive(address, message)
        if port != GROUP_PORT or address in self.known:
            self._inbox.put(address, port, message, now)
        return None

    @property
    def inbox_rows(self) -> Inbox:
        return self._inbox

    @property
    def on_radio(self) -> bool:
        return self._establish_bearer == "le_advert"

    @property
    def is_radio_free(self) -> bool:
        return self._own is not None and all(map(self._peers.has_link, self.known.direct))

    def name_of(self, address: str) -> str:
        return self._name_of(address) if address != self._own else self._config.node.name

    def inbox_has_room(self, address: str) -> bool:
        if address in self.known:
            return not self._adoption.is_for_now(address) and self._inbox.has_room(address)
        return self._inbox.has_room(address, sum(peer.half_received_bytes for peer in self._peers.strangers))

    def may_agree(self, address: str) -> bool:
        return self._peers.may_agree(address)

    def commit_later(self) -> None:
        self._lazy.later()

    def look_at_disk(self) -> None:
        """Look whether the journal is still the node's. Raises `JournalError` where only a new start helps."""
        self._lazy.look()

    def _on_disk(self, trouble: str) -> None:
        for peer in self._peers.values():
            peer.disk(works=not trouble)
        if trouble:
            log.error("%s", trouble)
            self.commit_later()
        else:
            log.info("the node's state is kept again")

    def look_for_copies(self, address: str, data: bytes) -> None:
        self._card.look_for_copies(address, data)

    # --- what the local API offers

    async def send(
        self, peer: str, message: bytes, *, port: int = 0, until: Literal["durable", "acknowledged"] = "durable"
    ) -> int:
        if port == self._relay.port:
            raise UsageError(f"port {port} is the relay's own: take another one")
        return await self._adoption.for_good(peer).send(message, port, acknowledged=until == "acknowledged")

    def inbox(self, peer: str | None, port: int, *, follow: bool = True) -> AsyncGenerator[Received, None]:
        return self._inbox.stream(self._peers.named(peer).address if peer else None, port, follow=follow)

    def acknowledge(self, number: int) -> None:
        """Forget a message. Raises `JournalError` where the disk does not take that."""
        self._inbox.acknowledge(number)
        if self.settings.durable_first:
            self.journal.commit()
        else:
            self.commit_later()

    async def establish(
        self, peer: str, *, wait: bool = False, without_continuity: bool = False
    ) -> api_types.Established | api_types.NotEstablished:
        outcome = await self._peers.named(peer).establish(wait=wait, without_continuity=without_continuity)
        return cast(api_types.Established | api_types.NotEstablished, outcome)

    def confirm(self, peer: str, string: str, by: str) -> api_types.Confirmed:
        named = self._peers.named(peer)
        if named.address not in self.known:
            raise UsageError(f"{named.name} is a stranger: add it to the configuration as a [[peer]] first")
        try:
            why = named.confirm(string, by)
        except UnreadableError as error:
            raise UsageError(f"string is {string[:64]!r} and must be {error}") from None
        return {"confirmed": not why, "peer": named.name, "reason": why}

    async def export(self, peer: str, label: str, length: int, *, after: str, rotate: bool) -> api_types.ExportedKey:
        named = self._peers.named(peer)
        try:
            generation, key = await named.export(label, length, after=after, rotate=rotate)
        except UnreadableError as error:
            raise UsageError(f"label is {label[:64]!r} and must be {error}") from None
        return {
            "peer": named.name,
            "generation": generation,
            "key": base64.b64encode(key).decode(),
            "connected": bool(named.link_count),
            "silent_s": named.silent_s,
        }

    def no_key_yet(self, peer: str) -> str:
        return told.why_no_key(self._peers.named(peer))

    async def scan(self, seconds: float) -> list[api_types.Sighting]:
        return await self._nearby.scan(seconds, {address: peer.name for address, peer in self._peers.items()})

    def status(self) -> api_types.Status:
        problems = self._problems()
        return {
            "version": __version__,
            "name": self._config.node.name,
            "address": self._own,
            "adapter": f"{self.adapter} ({self.settings.no_radio})" if self.settings.no_radio else self.adapter,
            "uptime_s": self._clock() - self._began,
            "healthy": not problems,
            "problems": problems,
            "discovery": self._nearby.status(),
            "journal": cast(api_types.Journal, asdict(self.journal.latency)),
            "relay": self._relay.status(),
            "peers": self.peers(),
            "groups": self.group_wishes.status(),
        }

    def show_nearby(self, status: dict[str, Any]) -> None:
        """Let everybody near read it, by GATT."""
        self._nearby.show(status)

    def peers(self) -> list[api_peer_types.Peer]:
        return [self._peer_status(peer) for peer in self._peers.values()]

    def _peer_status(self, peer: NodePeer) -> api_peer_types.Peer:
        sighting, limit = self._nearby.sightings.get(peer.address), self._config.node.queue_messages
        waiting: api_peer_types.Queues = {
            "outbox": peer.waiting_messages,
            "inbox": self._inbox.count(peer.address),
            "limit": limit,
        }
        return told.peer_status(peer, sighting.rssi if sighting else None, waiting, self._name_of)

    def _problems(self) -> list[str]:
        adapter = ""
        if self._own is None and self._keeper:
            missing = f"{self.adapter} is {self._keeper.state.value}: see bt-selfsecure doctor"
            adapter = self._keeper.trouble or missing
        found = [
            adapter,
            *(self._keeper.misfits if self._keeper else ()),
            self.journal.trouble,
            self._eraser.trouble,
            *self._card.troubles(self._own, self._nearby.sightings),
            self._api.trouble,
            *(f"{name}: {text}" for name, text in self._bearers.troubles.items()),
        ]
        return [problem for problem in found if problem]

    def _name_of(self, address: str) -> str:
        return self.known[address].name if address in self.known else address
