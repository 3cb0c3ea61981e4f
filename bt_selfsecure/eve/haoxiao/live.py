"""Attacks from this computer's own radio: the sans-IO classes of `attacks`, on the kernel's bearers.

Whether an attack succeeded Eve often cannot know: who attacks by advertisements hears no response. She says what she
did and what came back; `bt-selfsecure status` on the devices tells the rest.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Final

from bt_selfsecure.bearers.base import Bearer, BearerError, Link
from bt_selfsecure.bearers.hci import adapter_address
from bt_selfsecure.bearers.le_advert import LeAdvertBearer
from bt_selfsecure.bearers.specs import open_bearer, parse_spec
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.attacks.flood import RequestFlood
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.haoxiao.attacks.steering import BlacklistSteering
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import open_source
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial
from bt_selfsecure.wording import counted

Say = Callable[[str], None]
STEERING_COPIES: Final = 2
"""Of each forged packet: one is on the air for 30 ms, in which Alice sends the next."""
FLOOD_S: Final = 0.1
FROM_BOB: Final = frozenset({Kind.ACCEPT, Kind.RESPONSE, Kind.END})
DIAL_S: Final = 2.0
"""Between two tries to reach a device."""


class LiveAttacks:
    """Makes live attacks with one adapter, each for so many seconds or until Ctrl-C. `bearer` carries those that dial,
    as in "rfcomm#3". Raises `UsageError` where the radio or a device can't be used."""

    def __init__(self, adapter: str, bearer: str, seconds: float, say: Say) -> None:
        self._adapter: Final = adapter
        self._bearer: Final = replace(parse_spec(bearer), adapter=adapter)
        self._seconds: Final = seconds
        self._say: Final = say

    def run(self, name: str, targets: list[str], capture: str | None) -> bool:
        """Run one attack, and return whether she knows that it succeeded."""
        frames = _frames_of(capture) if capture else []
        try:
            return asyncio.run(self._run(name, targets, frames))
        except BearerError as refused:
            raise UsageError(str(refused)) from refused

    async def _run(self, name: str, targets: list[str], frames: list[bytes]) -> bool:
        match name:
            case "steering":
                return await self._steer(targets[0])
            case "flood":
                return await self._flood(targets[0])
            case "middle":
                return await self._stand_between(*targets)
            case _:
                return await self._replay(targets[0], frames)

    # --- by advertisements

    async def _steer(self, alice: str) -> bool:
        attack, knowledge = BlacklistSteering(secrets.token_bytes, STEERING_COPIES), Knowledge()
        bearer = LeAdvertBearer(self._adapter, bytes.fromhex(alice.replace(":", "")))
        forged: Counter[int] = Counter()
        self._say(f"listening for a burst of {alice}")
        try:
            async with _Lasting(self._seconds):
                link = await bearer.connect(alice)
                while True:
                    data = await link.receive()
                    knowledge.hear(data)
                    for sent in attack.hear(data):
                        await link.send(sent)
                        forged[decode(sent).seq] += 1
        finally:
            await bearer.close()
        self._say(f"{len(knowledge.burst)} burst packets heard, {len(forged)} missed and forged: {sorted(forged)}")
        self._say("Whether Bob struck them out, or gave up, his status tells; she hears no response.")
        return False

    # --- by connections

    async def _flood(self, bob: str) -> bool:
        attack = RequestFlood(Profile.HARDENED, secrets.token_bytes)
        bearer = open_bearer(self._bearer)
        sent, came = 0, Counter[str]()
        try:
            async with _Lasting(self._seconds):
                while True:
                    link = await self._dial(bearer, bob)
                    listening = asyncio.create_task(_count(link, came))
                    try:
                        while True:
                            await link.send(attack.request())
                            sent += 1
                            await asyncio.sleep(FLOOD_S)
                    except BearerError as lost:
                        self._say(f"after {sent} requests: {lost}")
                    finally:
                        listening.cancel()
                        await link.close()
        finally:
            await bearer.close()
        self._say(f"{sent} requests sent; Bob answered {_told(came)}")
        return False

    async def _stand_between(self, alice: str, bob: str) -> bool:
        own = bytes.fromhex(adapter_address(self._adapter).replace(":", ""))
        attack = ManInTheMiddle(secrets.token_bytes, own)
        bearer = open_bearer(self._bearer)
        self._say(f"waiting for {alice}")
        try:
            async with _Lasting(self._seconds):
                listener = await bearer.listen()
                to_alice = await listener.accept()
                while to_alice.peer != alice:
                    await to_alice.close()
                    to_alice = await listener.accept()
                self._say(f"{alice} is here; dialling {bob}")
                to_bob = await self._dial(bearer, bob)
                self._say("between the two")
                async with asyncio.TaskGroup() as relaying:
                    for source in (to_alice, to_bob):
                        relaying.create_task(self._relay(attack, source, to_alice, to_bob))
        except* BearerError as ended:
            self._say(f"over: {ended.exceptions[0]}")
        finally:
            await bearer.close()
        keys = attack.keys()
        if keys is None or not attack.complete:
            self._say("no key: they did not finish, or she was refused")
            return False
        for name, k0 in zip((alice, bob), keys, strict=True):
            self._say(f"with {name} she shares the key {KeyMaterial(k0, b'').fingerprint}")
        return True

    async def _relay(self, attack: ManInTheMiddle, source: Link, alice: Link, bob: Link) -> None:
        """Until both ends have a key. Sessions are not carried on: the two will find no common key, and say so."""
        while not attack.complete:
            for sent in attack.hear(await source.receive()):
                await (alice if decode(sent).kind in FROM_BOB else bob).send(sent)

    async def _replay(self, device: str, frames: list[bytes]) -> bool:
        bearer = open_bearer(self._bearer)
        came = Counter[str]()
        try:
            async with _Lasting(self._seconds):
                link = await self._dial(bearer, device)
                listening = asyncio.create_task(_count(link, came))
                for sent in frames:
                    await link.send(sent)
                self._say(f"{counted(len(frames), 'frame')} played to {device}")
                await listening
        finally:
            await bearer.close()
        self._say(f"it answered {_told(came)}")
        return bool(came[Kind.END.name] or came[Kind.DATA_ACK.name])

    async def _dial(self, bearer: Bearer, device: str) -> Link:
        """Until it answers."""
        while True:
            try:
                return await bearer.connect(device)
            except BearerError as refused:
                if not refused.transient:
                    raise
                self._say(str(refused))
                await asyncio.sleep(DIAL_S)


class _Lasting:
    """So many seconds, or until Ctrl-C; what came of it is said all the same.

    A class, because type checkers take a generator for one that lets exceptions pass.
    """

    def __init__(self, seconds: float) -> None:
        self._timeout: Final = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            await self._timeout.__aexit__(kind, value, trace)
        except TimeoutError:
            return True
        return kind is asyncio.CancelledError


def _frames_of(capture: str) -> list[bytes]:
    """Frames of ours, in their order. Raises `UsageError` where there are none."""
    reader, frames = Reader(HAOXIAO), []
    with open_source(capture) as source:
        for datagram in reader.read_all(source):
            try:
                decode(datagram.data)
            except FrameError:
                continue
            frames.append(datagram.data)
    if not frames:
        raise UsageError(f"{capture!r} holds no frame of this protocol: give a capture of an establishment or session")
    return frames


async def _count(link: Link, came: Counter[str]) -> None:
    """What comes over the link, until it ends."""
    try:
        while True:
            try:
                came[decode(await link.receive()).kind.name] += 1
            except FrameError:
                came["noise"] += 1
    except BearerError:
        pass


def _told(came: Counter[str]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in came.items()) or "nothing"
