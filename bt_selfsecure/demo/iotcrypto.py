"""The story of two companies (IoT-Crypto, sections 3.1 and 3.2): they share a part of a network by signing
certificates, and take it back by revoking. Each line says what real gateways, devices and a cloud did meanwhile."""

from __future__ import annotations

import asyncio
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bearers.places import shown_place
from bt_selfsecure.demo.companies import CloudAtWork, Companies, until
from bt_selfsecure.demo.relay import Told
from bt_selfsecure.iot.cloud.tokens import TokenRole
from bt_selfsecure.iot.folder import IdentityFolder
from bt_selfsecure.protocols.iotcrypto.lists import ListKind

WIDTH: Final = 78
MOST_LOOKS: Final = 50
LOOK_S: Final = 0.2
Say = Callable[[str], None]


def tell(seed: int, say: Say) -> Told:
    """Tell the story, and return what came of it. The computer draws the keys; the seed changes nothing."""
    with tempfile.TemporaryDirectory(prefix="bt-selfsecure-") as place:
        return asyncio.run(_told(Path(place), _Page(say)))


class _Page:
    """Writes acts, what people type, what came of it, and sentences."""

    def __init__(self, say: Say) -> None:
        self.say: Final = say
        self._act = 0

    def act(self, title: str) -> None:
        self._act += 1
        if self._act > 1:
            self.say("")
        self.say(f"{self._act}  {title}")

    def typed(self, who: str, command: str) -> None:
        self.say(f"   {who}$ bt-selfsecure {command}")

    def came(self, text: str) -> None:
        for line in textwrap.wrap(text, WIDTH, initial_indent="   -> ", subsequent_indent="      "):
            self.say(line)

    def tell(self, text: str) -> None:
        for line in textwrap.wrap(text, WIDTH, initial_indent="   ", subsequent_indent="   "):
            self.say(line)


async def _told(place: Path, page: _Page) -> Told:
    begun = time.monotonic()
    async with Companies(place) as there:
        story = _Story(there, page)
        await story.tell()
        facts = story.facts
    success = all(value is not False for value in facts.values())
    seconds = round(time.monotonic() - begun, 1)
    page.say("")
    if success:
        page.say(f"All of it on real sockets, files and certificates, in {seconds:.0f} s: docs/iot.md")
    else:
        page.say("Not all of it went as it should: --json says what did not.")
    return Told(success, {"story": "iotcrypto", "success": success, "seconds": seconds, **facts})


class _Story:
    """Tells it, act by act."""

    def __init__(self, there: Companies, page: _Page) -> None:
        self._there, self._page = there, page
        self.facts: Final[dict[str, Any]] = {}
        self.acme, self.heatco, self.sub = (there.company(name) for name in ("ACME", "Heatco", "Sub"))

    async def tell(self) -> None:
        cloud = await self._there.start_cloud(self.acme)
        await self._two_companies(cloud)
        await self._not_signed()
        await self._signed()
        await self._third()
        await self._taken_back()
        await self._seen_by_rest(cloud)

    async def _two_companies(self, cloud: CloudAtWork) -> None:
        there, page = self._there, self._page
        page.act("Two companies, a network each")
        page.tell(
            "ACME owns a house: its gateway `cellar` reads a boiler and a door, and reports to ACME's cloud. Heatco "
            "looks after boilers: its gateway `van` reads a water meter. Each has signed the certificates of what "
            "is its own. One key is common to all: it keeps strangers from asking, and proves nothing."
        )
        await there.start_gateway("cellar", self.acme, cloud.cloud)
        await there.start_gateway("van", self.heatco)
        there.make_device("boiler", self.acme, {"temperature": 51.5})
        there.make_device("door", self.acme, {"open": False})
        there.make_device("meter", self.heatco, {"litres": 1204})
        for name, gateway in (("boiler", "cellar"), ("door", "cellar"), ("meter", "van")):
            await self._read(name, gateway)

    async def _not_signed(self) -> None:
        self._page.act("The boiler is told to go to Heatco's van")
        self._page.typed("boiler", self._to("van"))
        await self._refused("boiler", "van", "unsigned_is_refused")
        self._page.tell("The van goes by Heatco's word. So Heatco signs the boiler's certificate.")
        self._page.typed("heatco", "iotcrypto sign boiler/certificate")
        self._there.sign(self.heatco, "boiler")
        await self._refused("boiler", "van", "half_signed_is_refused")
        self._page.tell("The van would take the boiler now; the boiler goes by ACME's word.")

    async def _signed(self) -> None:
        self._page.act("Two signatures share one device, and no more")
        self._page.typed("acme", "iotcrypto sign van/certificate")
        await self._there.signed(self.acme, "van")
        self._page.typed("boiler", self._to("van"))
        await self._read("boiler", "van")
        self._page.typed("door", self._to("van"))
        await self._refused("door", "van", "door_is_refused")

    async def _third(self) -> None:
        there, page = self._there, self._page
        page.act("Trust goes no further: Heatco hires Sub")
        page.typed("heatco", "iotcrypto sign sub-van/certificate")
        page.typed("sub", "iotcrypto trust heatco-certificate")
        self.sub.sign_list(ListKind.PARTIES, (self.heatco.signed().certificate,))
        await there.start_gateway("sub-van", self.sub)
        await there.signed(self.heatco, "sub-van")
        await self._read("meter", "sub-van")
        page.tell("To Heatco's meter Sub is as good as Heatco. ACME's boiler is told to go there, too.")
        await self._refused("boiler", "sub-van", "third_is_refused")

    async def _taken_back(self) -> None:
        there, page = self._there, self._page
        page.act("The contract ends: ACME takes its boiler back")
        page.typed("acme", "iotcrypto revoke van/certificate")
        van, boiler = there.gateways["van"], there.folder("boiler").signed().certificate.id
        self.facts["connected_until_revoked"] = boiler in van.devices
        made = self.acme.sign_list(ListKind.REVOCATIONS, (there.folder("van").signed().certificate.id,))
        page.typed("boiler", "iotcrypto trust --take revocations.list")
        begun = time.monotonic()
        there.folder("boiler").put_list(made)
        await until(lambda: boiler not in van.devices)
        self.facts["closed_s"] = round(time.monotonic() - begun, 2)
        self.facts["closed_in_time"] = self.facts["closed_s"] < 2.0
        page.came(f"the boiler closed its connection with the van after {self.facts['closed_s']:.1f} s, in mid traffic")
        await self._refused("boiler", "van", "revoked_is_refused")
        await self._read("boiler", "cellar")
        page.tell("Heatco could have done the same from its side, by revoking the boiler.")

    async def _seen_by_rest(self, cloud: CloudAtWork) -> None:
        page, heatco, acme = self._page, self.heatco, self.acme
        page.act("Another contract: not the boiler, but what it says")
        page.typed("acme", "iotcrypto trust heatco-certificate")
        page.typed("cloud", "cloud token add h --role partner --certificate heatco")
        owner = cloud.token("acme", TokenRole.OWNER)
        await self._bring(cloud, owner, acme, True)
        token, keys = cloud.token("heatco", TokenRole.PARTNER, heatco), heatco.secrets()

        all_of_them = _names(await cloud.ask("/v1/devices", owner))
        for _ in range(MOST_LOOKS):  # the boiler's gateway reports a moment later that it is back
            seen = _names(await cloud.ask("/v1/devices", token, keys))
            if seen == {"boiler"}:
                break
            await asyncio.sleep(LOOK_S)
        page.came(f"in its cloud ACME sees {_named(all_of_them)}; Heatco, by REST, {_named(seen)}")
        self.facts["partner_sees_the_boiler_alone"] = seen == {"boiler"} and all_of_them == {"boiler", "door"}
        thief = _names(await cloud.ask("/v1/devices", token))
        page.came(f"who has stolen Heatco's token, and not its key: {_named(thief)}")
        self.facts["token_alone_is_refused"] = thief == 401
        page.typed("acme", f"iotcrypto trust --remove {heatco.signed().certificate.id.hex()[:8]}...")
        await self._bring(cloud, owner, acme, False)
        after = _names(await cloud.ask("/v1/devices", token, keys))
        page.came(f"Heatco, by REST: {_named(after)}")
        self.facts["partner_is_out"] = after == 401

    async def _bring(self, cloud: CloudAtWork, token: str, acme: IdentityFolder, trusted: bool) -> None:
        """Bring ACME's list of parties to its cloud: with Heatco, or without."""
        made = acme.sign_list(ListKind.PARTIES, (self.heatco.signed().certificate,) if trusted else ())
        await cloud.ask("/v1/trust/lists", token, post=made.encode())

    def _to(self, gateway: str) -> str:
        return f"device run sensors.py --gateway {shown_place(self._there.at(gateway)[0])}"

    async def _read(self, name: str, gateway: str) -> None:
        device = await self._there.start_device(name, gateway)
        self._page.came(f"{gateway} reads {name}: {_said(device.readings)}")
        self.facts[f"{gateway}_reads_{name}"] = None not in device.readings.values()

    async def _refused(self, name: str, gateway: str, fact: str) -> None:
        why = await self._there.refusal(name, gateway)
        self._page.came(f"{name} at {gateway}: {why}" if why else f"{name} is connected to {gateway}")
        self.facts[fact] = why != ""


def _said(readings: Any) -> str:
    return ", ".join(f"{name} {str(value).lower()}" for name, value in readings.items())


def _names(told: Any) -> Any:
    return told if isinstance(told, int) else {one["name"] for one in told["devices"]}


def _named(devices: Any) -> str:
    """Say which devices somebody sees; of whom REST refuses, its status."""
    return (
        f"nothing (HTTP {devices})"
        if isinstance(devices, int)
        else " and ".join(f"the {name}" for name in sorted(devices))
    )
