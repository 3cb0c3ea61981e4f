"""Drives one pairing: its endpoint, the links to whoever is there, and the peer that comes of it.

With the key a peer is adopted for the time being: a session's key is agreed on with it under that of the pairing. Where
the secret was overheard, people compare that key's string. Only when both ends have said that all is well is the peer
kept; before that, whatever goes wrong here or there, or Ctrl-C, leaves nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.errors import BtSelfSecureError, UnreadableError, UsageError
from bt_selfsecure.node.config import PeerTable, address_bytes
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.node.pairing.link import PairingLink
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.protocols.pairing.end import PairingEnd, PairingState
from bt_selfsecure.protocols.pairing.events import Failure, Keyed, Paired, PairingFailed, Released, WrongGuess
from bt_selfsecure.protocols.pairing.frames import Frame, FrameError, Kind, Why, decode, encode
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder

log = logging.getLogger(__name__)

DIAL_S: Final = 60.0
"""For so long the other device is dialled again and again."""
REDIAL_S: Final = 1.0
AGAIN_S: Final = 2.0
"""From one attempt at a session's key to the next."""
PAUSE_S: Final = 0.1
"""Before a key is waited for again, where waiting was over at once, as without an adapter. No key is made in less."""
END_S: Final = 1.0
"""For so long what is still to be said may take."""
MOST_LINKS: Final = 8
"""Of strangers at once; the oldest goes."""
Told = Callable[..., None]
"""`told(event, **fields)` hands on a line of `PairingLine` in api_types.py."""


class PairingContext(Protocol):
    """Offers a pairing what it needs of its node; `service.Node` does."""

    @property
    def known(self) -> KnownPeers: ...

    async def dial(self, bearer: str, address: str) -> Link:
        """Dial any device. Raises `BtSelfSecureError`."""

    def adopt(self, table: PeerTable, key: bytes) -> NodePeer:
        """Work with this peer from now on, for the time being. Raises `JournalError`."""

    async def drop(self, address: str) -> None:
        """Work with this peer no more, and keep nothing of it."""

    async def forget(self, name: str) -> None:
        """Let a peer go that was kept. Raises `UnknownPeerError`, `UsageError`."""

    def keep(self, table: PeerTable, key: bytes) -> None:
        """Keep an adopted peer for good. Raises `UsageError` where the disk does not take it."""


class PairingDriver:
    """Runs one pairing in `run`, until it is over, also for as long as an end that is paired is still to answer.

    `call` is the address of the device that is dialled, empty where this one waits. `name` is what the peer is to be
    called, empty for what it calls itself.
    """

    def __init__(
        self, node: PairingContext, bearer: str, way: Way, endpoint: PairingEnd, told: Told, *, call: str, name: str
    ) -> None:
        self._node, self._bearer, self._way, self._told = node, bearer, way, told
        self._endpoint, self._call, self._name = endpoint, call, name
        self._clock = asyncio.get_running_loop().time
        self._links: list[PairingLink] = []
        self._wake = asyncio.Event()
        self._keyed: Keyed | None = None
        self._table: PeerTable | None = None
        self._verdict: asyncio.Future[str] | None = None
        """Whom it is from, when people have found the strings to be the same; empty where they are not."""
        self._string = ""
        self._agreeing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._dropping: asyncio.Task[None] | None = None
        """Is never cancelled: what had been dropped in part would stay for good."""
        self._is_kept = self._is_given_up = False
        self.is_decided = False
        """Paired, or failed: whoever waits for the outcome has it."""

    # --- links --------------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """Return the address of the device that has proved itself, or that is called; empty before that."""
        return self._keyed.peer.hex(":").upper() if self._keyed else self._call

    def take(self, bearer: str, link: Link, *, dialled: bool = False) -> PairingLink:
        """Listen on a link, which this end may have dialled, for frames of this pairing."""
        taken = PairingLink(bearer, link, self._receive, self._ended, dialled=dialled)
        self._links.append(taken)
        mine = [one for one in self._links if not one.is_handed_over]
        if len(mine) > MOST_LINKS:
            self._start(mine[0].close())
        return taken

    def _ended(self, link: PairingLink) -> None:
        if link in self._links:
            self._links.remove(link)

    def _receive(self, link: PairingLink, data: bytes) -> None:
        if self._endpoint.state is PairingState.OVER or (self._dropping and not self._dropping.done()):
            return  # whoever asks asks again
        with contextlib.suppress(FrameError):
            frame = decode(data)
            if frame.identity and frame.identity != address_bytes(link.peer):
                return  # another's name
            is_peer = link.peer in self._node.known and not self._is_adopted(link.peer)
            if is_peer and frame.kind is Kind.SHARE_A:
                self._send(encode(Frame(Kind.REFUSED, frame.run, Why.KNOWN)), [link])
                return
            self._endpoint.receive_frame(data, self._clock())
            self._act(link)
            self._wake.set()  # there may be another deadline

    def _is_adopted(self, address: str) -> bool:
        return self._table is not None and self._table.address == address

    def _send(self, data: bytes, links: list[PairingLink]) -> None:
        for link in links:
            with contextlib.suppress(LinkClosedError):
                if not link.send_now(data):
                    sending = self._start(_sent(link, data))
                    self._sending.add(sending)
                    sending.add_done_callback(self._sending.discard)

    # --- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until it is over, or given up: then nothing of it stays."""
        try:
            if isinstance(self._endpoint, PairingInitiator):
                self._start(self._dial(self._endpoint))
            while self._endpoint.state is not PairingState.OVER and not self._is_given_up:
                await self._turn()
        finally:
            await self._end()

    def give_up(self) -> None:
        """Have `run` end. It is not to be cancelled for this: that could take it in the middle of its last work."""
        self._is_given_up = True
        self._wake.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="pairing")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, BtSelfSecureError):  # as of a full disk, which the node tells by itself
            self._fail(str(fault))
        elif fault:
            log.error("a fault of this program in pairing, please report it", exc_info=fault)
            self._fail("the node failed at this; its log says why (journalctl -u bt-selfsecure)")

    async def _turn(self) -> None:
        at = self._endpoint.get_timer()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                await self._wake.wait()
        self._wake.clear()
        self._endpoint.handle_timer(self._clock())
        self._act()

    async def _end(self) -> None:
        """What is left of it: the other end is told, links are closed, and a peer that is not kept is dropped."""
        self._endpoint.close(self._clock())
        frames = self._endpoint.frames_to_send(self._clock())
        if self._sending:
            await asyncio.wait(self._sending, timeout=END_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in list(self._links):
            for data in frames:
                await _sent(link, data)
            if not link.is_handed_over:
                await link.close()
        self._drop()
        if self._dropping:
            await asyncio.wait((self._dropping,))

    async def _dial(self, endpoint: PairingInitiator) -> None:
        """Until there is a link; again, when it ends before there is a key."""
        until, said = self._clock() + DIAL_S, ""
        while endpoint.state in (PairingState.NEW, PairingState.ASKING, PairingState.PROVING):
            if not self._links:
                try:
                    self.take(self._bearer, await self._node.dial(self._bearer, self._call), dialled=True)
                except BtSelfSecureError as error:
                    if str(error) != said:
                        said = str(error)
                        self._told("trouble", text=said)
                    if endpoint.state is PairingState.NEW and self._clock() > until:
                        self._fail(f"there is no link to {self._call}: {said}")
                        return
                else:
                    if endpoint.state is PairingState.NEW:
                        endpoint.start(self._clock())
                    self._wake.set()
            await asyncio.sleep(REDIAL_S)

    def _act(self, link: PairingLink | None = None) -> None:
        """Send what the endpoint has to say, to whom it answers or to the one that is meant, and do what it tells."""
        ours = [one for one in self._links if not self.peer or one.peer == self.peer]
        for data in self._endpoint.frames_to_send(self._clock()):
            self._send(data, [link] if link else ours[-1:])
        while (event := self._endpoint.next_event()) is not None:
            match event:
                case WrongGuess():
                    self._told("wrong", left=event.left)
                case Keyed() if self._endpoint.state is PairingState.KEYED:
                    self._adopt(event, link)
                case Paired():
                    self._keep()
                case Released():
                    self._told("released", peer=self._called, text="the other device has given up")
                    self._release()
                case PairingFailed():
                    self._undone(event.reason)
        if isinstance(self._endpoint, PairingResponder) and self._endpoint.state is PairingState.LOCKED:
            self._fail("there were five wrong guesses: somebody is guessing, or types badly; show new words")

    def _undone(self, reason: Failure) -> None:
        if self._is_kept:
            self._is_kept = False
            log.warning("%s was paired and is not any more: it has not heard that all is well here", self._called)
        self._fail(_sentence(reason, self._called))

    @property
    def _called(self) -> str:
        return self._table.name if self._table else self.peer

    def _fail(self, why: str) -> None:
        if not self.is_decided:
            self.is_decided = True
            self._told("failed", peer=self._called, text=why)
        self._endpoint.close(self._clock())
        self._wake.set()

    # --- the peer that comes of it ------------------------------------------------------------------------------------

    def _adopt(self, event: Keyed, link: PairingLink | None) -> None:
        self._keyed = event
        address = event.peer.hex(":").upper()
        where = link.whereabouts if link else ""
        self._table = PeerTable(_free_name(self._name or event.name, address, self._node.known), address, udp=where)
        self._told("keyed", peer=self._table.name, address=address)
        try:
            peer = self._node.adopt(self._table, event.key)
        except BtSelfSecureError as error:
            self._fail(str(error))
            return
        if link:
            link.is_handed_over = True
            peer.begin_with(link.bearer, link, dialled=link.dialled)
        self._agreeing = self._start(self._agree(peer))

    async def _agree(self, peer: NodePeer) -> None:
        """A session's key, under the pairing's; then people compare, where they must."""
        outcome = await peer.establish(wait=isinstance(self._endpoint, PairingResponder))
        while not (outcome["established"] and outcome["authenticated"]):
            self._told("trouble", text=outcome.get("reason") or "the key is not made with that of the pairing")
            outcome = await self._another(peer)
        if self._way.is_overheard and not await self._is_same(peer, str(outcome["sas"])):
            self._fail("the strings differ: somebody stands between the two, or another device is meant")
            return
        if self._endpoint.state is PairingState.KEYED:
            self._endpoint.confirm(self._clock())
            self._act()
            self._wake.set()

    async def _another(self, peer: NodePeer) -> dict[str, Any]:
        """The outcome of the next attempt at a session's key. The node may make it by itself: it is waited for all the
        time, and only asked for after some."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                return await _made(peer)
        return await peer.establish(wait=isinstance(self._endpoint, PairingResponder))

    async def _is_same(self, peer: NodePeer, string: str) -> bool:
        """What people have found. The other end may have given up the key and begun another one: then there is another
        string, at both ends."""
        self._verdict = verdict = asyncio.get_running_loop().create_future()
        while not verdict.done():
            if string != self._string:
                self._string = string
                self._told("string", peer=peer.name, string=string)
            another = asyncio.ensure_future(_made(peer))
            try:
                await asyncio.wait((verdict, another), return_when=asyncio.FIRST_COMPLETED)
                if another.done():
                    string = str(another.result()["sas"])
            finally:
                another.cancel()
        by = verdict.result()
        if by:
            with contextlib.suppress(UnreadableError):
                return not peer.confirm(string, by)
        return False

    def compared(self, same: bool, string: str, by: str) -> None:
        """Take a person's word on this string, or on the newest where none is named. Raises `UsageError` where nobody
        is asked, and where there is a newer one."""
        if self._verdict is None or self._verdict.done():
            raise UsageError("there is nothing to compare now")
        if string and string != self._string:
            raise UsageError("there is another key by now, with another string: compare that one")
        self._verdict.set_result(by if same else "")

    def _keep(self) -> None:
        assert self._table is not None
        assert self._keyed is not None
        try:
            self._node.keep(self._table, self._keyed.key)
        except UsageError as error:
            self._endpoint.undo(self._clock())
            self._fail(str(error))
            return
        self._is_kept = self.is_decided = True
        log.info("%s (%s) is paired", self._table.name, self._table.address)
        self._told("paired", peer=self._table.name, address=self._table.address)

    def _release(self) -> None:
        if self._agreeing:
            self._agreeing.cancel()
        self._verdict = None
        self._drop()

    def _drop(self) -> None:
        """Nothing of a peer stays that is not paired for good."""
        if self._table and not self._is_kept:
            address, self._table, self._keyed = self._table.address, None, None
            self._dropping = asyncio.create_task(self._node.drop(address), name="pairing")
            self._dropping.add_done_callback(self._done)


async def _made(peer: NodePeer) -> dict[str, Any]:
    """The next session's key, whichever end begins."""
    while not (outcome := await peer.establish(wait=True))["established"]:
        await asyncio.sleep(PAUSE_S)
    return outcome


async def _sent(link: PairingLink, data: bytes) -> None:
    with contextlib.suppress(LinkClosedError):
        await link.send(data)


def _free_name(said: str, address: str, known: KnownPeers) -> str:
    """What it calls itself, as far as that is a name; a number behind it where another peer is called so."""
    wanted = re.sub(r"[^A-Za-z0-9._-]", "-", said).lstrip("._-")[: limits.NAME_BYTES - 4]
    wanted = wanted or f"pi-{address[9:].replace(':', '').lower()}"
    names = (wanted, *(f"{wanted}-{number}" for number in range(2, 1000)))
    return next(name for name in names if known.named(name) is None)


def _sentence(reason: Failure, who: str) -> str:
    texts = {
        Failure.NO_ANSWER: f"{who} does not answer: is it near, showing this still, and not calling this one?",
        Failure.KNOWN: f"this device is a peer of {who} already: there, bt-selfsecure pair forget it first",
        Failure.WAY: f"{who} shows something else: see which way was taken there",
        Failure.CLOSED: "it was given up",
    }
    return texts.get(reason, reason.value)
