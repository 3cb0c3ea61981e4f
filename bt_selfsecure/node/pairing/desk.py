"""Where pairings are asked for: one at a time, told line by line to whoever asks, and over when nobody listens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, cast

from bt_selfsecure.addresses import is_address, spelled
from bt_selfsecure.bearers.base import Link
from bt_selfsecure.bearers.specs import parse_spec
from bt_selfsecure.errors import BtSelfSecureError, UnreadableError, UsageError
from bt_selfsecure.node.api_operations import PairQuery
from bt_selfsecure.node.api_types import PairingLine
from bt_selfsecure.node.config import PLACE_OR_NONE, Config, address_bytes
from bt_selfsecure.node.errors import ConflictError
from bt_selfsecure.node.pairing.driver import PairingContext, PairingDriver
from bt_selfsecure.oob.words import drawn_words, read_words
from bt_selfsecure.protocols.pairing import codes
from bt_selfsecure.protocols.pairing.codes import Carried, Way
from bt_selfsecure.protocols.pairing.end import PairingConfig
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder
from bt_selfsecure.sansio.context import EndpointContext

NAMES: Final = {"words": Way.WORDS, "code": Way.CODE, "call": Way.CALL}


class PairingDesk:
    """Takes wishes to pair; `own` tells the node's device address. Those that are done linger, to answer the other
    end."""

    def __init__(self, node: PairingContext, config: Config, own: Callable[[], str | None]) -> None:
        self._node, self._config, self._own = node, config, own
        self._bearer: Final = parse_spec(config.session.bearer).name
        self._current: PairingDriver | None = None
        self._running: dict[PairingDriver, asyncio.Task[None]] = {}

    async def pair(self, query: PairQuery, carried: bytes) -> AsyncGenerator[PairingLine, None]:
        """Pair, and yield what is to be told, the last of which is `paired` or `failed`. Whoever stops listening before
        has given up. With `carried`, what was read of the other device; without, this one shows something.

        Raises `UsageError` for what can't be, `ConflictError` while another pairing is under way.
        """
        own = self._require(query)
        lines: asyncio.Queue[PairingLine] = asyncio.Queue()

        def told(event: str, **fields: Any) -> None:
            lines.put_nowait(_line(event, **fields))

        way, config = NAMES[query.way], PairingConfig(address_bytes(own), self._config.node.name)
        context = EndpointContext(os.urandom, name="pairing")
        endpoint: PairingInitiator | PairingResponder
        if carried:
            read = self._read(way, carried, query.address)
            address = self._callable(read, own)
            endpoint = PairingInitiator(config, read, context)
            self._node.known.call(address, query.udp)
            told("calling", address=address)
        else:
            words = drawn_words(os.urandom) if way is Way.WORDS else ""
            secret = words.encode() or codes.drawn_secret(way, os.urandom)
            endpoint, address = PairingResponder(config, way, secret, context), ""
            place = self._config.udp.listen if self._bearer == "udp" else ""
            told("shown", code=words or endpoint.carried.encode().hex(), address=own, place=place)
        driver = PairingDriver(self._node, self._bearer, way, endpoint, told, call=address, name=query.name)
        self._current = driver
        self._node.known.is_pairing = not address
        task = self._running[driver] = asyncio.create_task(driver.run(), name="pairing")
        task.add_done_callback(lambda task: self._over(driver, task, told))
        try:
            while True:
                line = await lines.get()
                yield line
                if line["event"] in ("paired", "failed"):
                    break
        finally:
            self._current, self._node.known.is_pairing = None, False
            self._node.known.end_call(address)
            if not driver.is_decided:
                driver.give_up()
                await asyncio.wait((task,))

    def _over(self, driver: PairingDriver, task: asyncio.Task[None], told: Any) -> None:
        self._running.pop(driver, None)
        if not driver.is_decided:
            failed = task.cancelled() or task.exception()
            told("failed", text="the node failed at this: see its log" if failed else "it was given up")

    def _require(self, query: PairQuery) -> str:
        own = self._own()
        if self._config.establish.profile == "paper":
            raise UsageError('pairing makes an authentication key, and profile = "paper" takes none: use "hardened"')
        if own is None:
            raise BtSelfSecureError("there is no adapter that works: see bt-selfsecure doctor")
        if not PLACE_OR_NONE.accepts(query.udp):
            raise UsageError(f"udp is {query.udp[:64]!r} and must be {PLACE_OR_NONE.expected}")
        if query.name and self._node.known.named(query.name):
            raise UsageError(f"{query.name} is the name of another peer: take another name")
        if self._current is not None:
            raise ConflictError("another pairing is under way here: end it first")
        return own

    def _read(self, way: Way, carried: bytes, address: str) -> Carried:
        if way is Way.WORDS and not is_address(spelled(address)):
            raise UsageError(f"{address[:64]!r} is no device address: give that of the device that shows the words")
        try:
            if way is Way.WORDS:
                text = read_words(carried.decode("ascii", "replace"))
                return codes.words(address_bytes(spelled(address)), text)
            return codes.decode(way, carried)
        except UnreadableError as error:
            raise UsageError(str(error)) from None

    def _callable(self, carried: Carried, own: str) -> str:
        address = carried.identity.hex(":").upper()
        if address == own:
            raise UsageError("this is of this very device: read that of the other one")
        if table := self._node.known.get(address):
            raise UsageError(
                f"{table.name} ({address}) is a peer already: bt-selfsecure pair forget {table.name} first"
            )
        return address

    async def forget(self, peer: str) -> None:
        """Let a peer go that was paired. Raises `UnknownPeerError`, `UsageError`."""
        await self._node.forget(peer)

    # --- what the node asks -------------------------------------------------------------------------------------------

    def compared(self, same: bool, string: str, by: str) -> None:
        """Take a person's word on the strings of the pairing that is under way. Raises `UsageError`."""
        if self._current is None:
            raise UsageError("no pairing is under way")
        self._current.compared(same, string, by)

    def take_stranger(self, bearer: str, link: Link) -> bool:
        """Listen to one who is no peer, if a pairing is under way that waits for somebody."""
        if self._current is None or not self._node.known.is_pairing:
            return False
        self._current.take(bearer, link)
        return True

    def for_peer(self, bearer: str, link: Link) -> Link:
        """Return the link of a peer as its driver is to use it: a pairing may still have to say something on it."""
        for driver in reversed(self._running):  # one that is done may linger while the same two pair again
            if driver.peer == link.peer or (driver is self._current and self._node.known.is_pairing):
                taken = driver.take(bearer, link)
                taken.is_handed_over = True
                return taken
        return link

    async def stop(self) -> None:
        """Give up whatever is under way."""
        for driver in self._running:
            driver.give_up()
        await asyncio.gather(*self._running.values(), return_exceptions=True)


def _line(event: str, **fields: Any) -> PairingLine:
    empty = dict.fromkeys(PairingLine.__annotations__, "")
    return cast(PairingLine, {**empty, "left": 0, "event": event, **fields})
