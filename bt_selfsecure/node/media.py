"""Where a node's bearers come from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from bt_selfsecure.bearers.base import Bearer, Link
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.specs import import_bearer, open_bearer, parse_spec
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.config import Config, bearer_spec
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.sansio.back_off import BackOff

log = logging.getLogger(__name__)

QUIET_S: Final = 60.0
"""A refused link is logged once in so long."""


class Media(Protocol):
    """Opens bearers: on the kernel's adapter, or in a test's memory."""

    def open(self, name: str) -> Bearer:
        """Open the bearer of that name. Raises `BtSelfSecureError`."""


class KernelMedia:
    """Opens bearers on the adapter that `adapter` names then, or on UDP; `own` tells the device address.

    `has_link` says of a configured peer's address whether there is a link to it: then it need not pair.
    """

    def __init__(
        self,
        config: Config,
        known: KnownPeers,
        adapter: Callable[[], str],
        own: Callable[[], str | None],
        has_link: Callable[[str], bool],
    ) -> None:
        self._config, self._known, self._adapter, self._own = config, known, adapter, own
        self._pairing = Pairing(
            allows=known.may_bond,
            needed=lambda: known.awaits_strangers or not all(map(has_link, known.direct)),
            memory=config.node.state_directory / "adapter-settings.json",
            answers=config.rfcomm.pair,
        )
        for table in (config.establish, config.session):
            import_bearer(parse_spec(table.bearer))

    def open(self, name: str) -> Bearer:
        config = self._config
        table = config.session.bearer if bearer_name(config.session.bearer) == name else config.establish.bearer
        return open_bearer(
            bearer_spec(config, table, self._adapter()),
            pairing=self._pairing,
            flush_timeout_slots=config.l2cap.flush_timeout_slots,
            udp=self._known.udp_places(self._own() or ""),
        )


class Bearers:
    """Opens bearers when they are needed. `on_link` is given each link that a peer dials; it returns False if that is
    not welcome."""

    def __init__(self, media: Media, on_link: Callable[[str, Link], bool]) -> None:
        self.troubles: dict[str, str] = {}
        """Why no peer can dial, by bearer."""
        self._media, self._on_link = media, on_link
        self._bearers: dict[str, Bearer] = {}
        self._listeners: list[asyncio.Task[None]] = []
        self._quiet_until = 0.0

    async def connect(self, name: str, address: str) -> Link:
        """Dial this peer, and return the link. Raises `BtSelfSecureError`."""
        return await self._open(name).connect(address)

    def listen(self, names: Iterable[str]) -> None:
        """Listen on these bearers from now until `close`; what fails is tried again."""
        for name in sorted(names):
            self._listeners.append(asyncio.create_task(self._listen(name), name=f"listen on {name}"))

    async def close(self) -> None:
        """Let go of the adapter; `listen` and `connect` begin anew."""
        for task in self._listeners:
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        for bearer in self._bearers.values():
            with contextlib.suppress(BtSelfSecureError):
                await bearer.close()
        self._listeners.clear()
        self._bearers.clear()
        self.troubles.clear()

    def _open(self, name: str) -> Bearer:
        if name not in self._bearers:
            self._bearers[name] = self._media.open(name)
        return self._bearers[name]

    async def _listen(self, name: str) -> None:
        clock = asyncio.get_running_loop().time
        retry = BackOff()
        while True:
            try:
                await self._accept_links(name, retry)
            except BtSelfSecureError as error:
                if self.troubles.get(name) != str(error):
                    log.warning("%s: %s", name, error)
                self.troubles[name] = str(error)
            except Exception:
                log.exception("a fault of this program in listening on %s, please report it", name)
                self.troubles[name] = "nobody can dial: see the log"
            now = clock()
            retry.failed(now, random.random())
            await asyncio.sleep(retry.until - now)

    async def _accept_links(self, name: str, retry: BackOff) -> None:
        listener = await self._open(name).listen()
        self.troubles.pop(name, None)
        retry.reset()
        try:
            while True:
                link = await listener.accept()
                if not self._on_link(name, link):
                    self._log_refused(link.peer)
                    await link.close()
        finally:
            await listener.close()

    def _log_refused(self, peer: str) -> None:
        """Once in a while: anybody can make up an address."""
        now = asyncio.get_running_loop().time()
        level = logging.INFO if now >= self._quiet_until else logging.DEBUG
        if level == logging.INFO:
            self._quiet_until = now + QUIET_S
        log.log(level, "a link of %s is refused: no peer of ours, or too many links", peer)


def bearer_name(bearer: str) -> str:
    """Return the name of the bearer that a key `bearer` of the configuration has."""
    return parse_spec(bearer).name


def no_radio(config: Config) -> str:
    """Return why what gets lost while a key is agreed on hides nothing from an eavesdropper; empty on a radio."""
    spec = parse_spec(config.establish.bearer)
    if spec.name != "udp":
        return ""
    return "losses are drawn by this program, no radio" if spec.faults else "udp is no radio"
