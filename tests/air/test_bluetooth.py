"""Virtual Bluetooth: what each bearer delivers, what the air may lose, and what a listener gets."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bt_selfsecure.air.bluetooth import VirtualBluetooth, VirtualLink
from bt_selfsecure.air.capture import CaptureTap, PcapngWriter
from bt_selfsecure.air.link import SUPERVISION_TIMEOUT_S
from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.bearers.limits import ACL_PACKET_BYTES, ADVERT_BYTES, FLUSHABLE_BYTES
from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import ReadingTap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bt_selfsecure.air.bluetooth import Bearer

BEARERS = ("rfcomm", "l2cap", "le_advert")
COUNT = 200
PACE = 0.01


@dataclass
class Ether:
    """A loss model that remembers each decision: (sender, time, who heard)."""

    hears: Callable[[str, str, float], bool] = lambda sender, listener, now: True
    decisions: list[tuple[str, float, frozenset[str]]] = field(default_factory=list)

    def heard(self, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        decision = frozenset(name for name in listeners if self.hears(sender, name, now))
        self.decisions.append((sender, now, decision))
        return decision

    def of(self, sender: str, since: float) -> list[frozenset[str]]:
        return [heard for who, when, heard in self.decisions if who == sender and when >= since]


def losing(seed: int, **losses: float) -> Callable[[str, str, float], bool]:
    draw = random.Random(seed)
    return lambda sender, listener, now: draw.random() >= losses.get(listener, 0.0)


def tap(heard: list[bytes]) -> CaptureTap:
    return CaptureTap(then=ReadingTap(HAOXIAO, lambda time, datagram: heard.append(datagram)))


def datagrams(size: int, seed: int, count: int = COUNT) -> list[bytes]:
    draw = random.Random(seed)
    return [number.to_bytes(2) + draw.randbytes(size - 2) for number in range(count)]


async def drain(link: Link) -> list[bytes]:
    """What has come in."""
    received: list[bytes] = []
    while True:
        try:
            async with asyncio.timeout(0.0):
                received.append(await link.receive())
        except TimeoutError:
            return received


def digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


async def exchange(
    air: VirtualBluetooth, size: int, count: int = COUNT
) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    """Both send at once, paced: (sent by alice, received by bob, sent by bob, received by alice)."""
    alice, bob = air.link("alice"), air.link("bob")
    outward, homeward = datagrams(size, 1, count), datagrams(size, 2, count)
    for there, back in zip(outward, homeward, strict=True):
        await alice.send(there)
        await bob.send(back)
        await asyncio.sleep(PACE)
    await asyncio.sleep(60)
    return outward, await drain(bob), homeward, await drain(alice)


@pytest.fixture(autouse=True)
def _bumble_has_nothing_to_complain_about(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Bumble logs a packet that it can't place or a command that it doesn't know; that would be our fault."""
    with caplog.at_level(logging.WARNING):
        yield
    assert not caplog.get_records("call")


# --- what arrives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bearer", BEARERS)
def test_a_clean_air_carries_everything_both_ways_and_eve_hears_it_all(bearer: Bearer) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        async with VirtualBluetooth(bearer, Ether().heard, {"eve": tap(heard)}) as air:
            outward, at_bob, homeward, at_alice = await exchange(air, ADVERT_BYTES)
        assert digest(at_bob) == digest(outward)
        assert digest(at_alice) == digest(homeward)
        assert [d for d in heard if d in set(outward)] == outward
        assert [d for d in heard if d in set(homeward)] == homeward
        assert len(heard) == 2 * COUNT

    run_virtual(main())


@pytest.mark.parametrize(("size", "count"), [(61, COUNT), (2, 50), (990, 50), (1001, 50), (5000, 50)])
def test_rfcomm_delivers_everything_over_an_air_that_loses_a_third(size: int, count: int) -> None:
    async def main() -> None:
        ether = Ether(losing(3, alice=0.3, bob=0.4))
        async with VirtualBluetooth("rfcomm", ether.heard, {}) as air:
            outward, at_bob, homeward, at_alice = await exchange(air, size, count)
        assert digest(at_bob) == digest(outward)
        assert digest(at_alice) == digest(homeward)
        assert [len(d) for d in at_bob] == [size] * count

    run_virtual(main())


@pytest.mark.parametrize(("bearer", "size"), [("l2cap", 61), ("l2cap", FLUSHABLE_BYTES), ("le_advert", ADVERT_BYTES)])
def test_where_losses_show_exactly_those_datagrams_are_missing_that_the_model_lost(bearer: Bearer, size: int) -> None:
    async def main() -> None:
        ether = Ether(losing(4, alice=0.2, bob=0.3, eve=0.25))
        heard: list[bytes] = []
        async with VirtualBluetooth(bearer, ether.heard, {"eve": tap(heard)}) as air:
            await asyncio.sleep(5)  # what is still signalled after the connection is made has its repetitions
            connected = asyncio.get_running_loop().time()
            outward, at_bob, homeward, at_alice = await exchange(air, size)
        there, back = (drop_signalling(ether.of(name, connected)) for name in ("alice", "bob"))
        assert at_bob == [d for d, who in zip(outward, there, strict=True) if "bob" in who]
        assert at_alice == [d for d, who in zip(homeward, back, strict=True) if "alice" in who]
        assert [d for d in heard if d in set(outward)] == [d for d, w in zip(outward, there, strict=True) if "eve" in w]
        assert [d for d in heard if d in set(homeward)] == [
            d for d, w in zip(homeward, back, strict=True) if "eve" in w
        ]
        assert 0 < len(at_bob) < COUNT
        assert 0 < len(heard) < 2 * COUNT

    def drop_signalling(decisions: list[frozenset[str]]) -> list[frozenset[str]]:
        return decisions[len(decisions) - COUNT :]

    run_virtual(main())


def test_long_datagrams_are_not_lost_beside_lossy_advertisements() -> None:
    async def main() -> None:
        ether = Ether(losing(5, alice=0.3, bob=0.3))
        async with VirtualBluetooth("le_advert", ether.heard, {}) as air:
            outward, at_bob, homeward, at_alice = await exchange(air, ADVERT_BYTES + 1)
        assert digest(at_bob) == digest(outward)
        assert digest(at_alice) == digest(homeward)

    run_virtual(main())


def test_a_short_datagram_can_be_kept_off_the_advertisements() -> None:
    async def main() -> None:
        ether = Ether(losing(5, alice=0.3, bob=0.3))
        async with VirtualBluetooth("le_advert", ether.heard, {}, advertises=lambda datagram: False) as air:
            sent = datagrams(ADVERT_BYTES, 1)
            for datagram in sent:
                await air.link("alice").send(datagram)
            assert [await air.link("bob").receive() for _ in sent] == sent

    run_virtual(main())


def test_the_scanner_reports_each_event_of_a_repeated_payload() -> None:
    async def main() -> list[bytes]:
        async with VirtualBluetooth("le_advert", Ether().heard, {}) as air:
            for payload in (b"same", b"same", b"same", b"changed", b"same"):
                await air.link("alice").send(payload)
                await asyncio.sleep(PACE)
            return await drain(air.link("bob"))

    assert run_virtual(main()) == [b"same", b"same", b"same", b"changed", b"same"]


def test_each_advertisement_is_one_event_however_long_the_next_one_takes_to_come() -> None:
    async def main() -> int:
        ether = Ether()
        async with VirtualBluetooth("le_advert", ether.heard, {}) as air:
            await asyncio.sleep(1)
            quiet = asyncio.get_running_loop().time()
            await air.link("alice").send(b"once")
            await asyncio.sleep(10)
        return len(ether.of("alice", quiet))

    assert run_virtual(main()) == 1


def test_the_loss_models_of_the_air_fit() -> None:
    async def main() -> int:
        model = Bernoulli({"bob": 0.5, "eve": 0.5})
        async with VirtualBluetooth("l2cap", partial(model.transmit, random.Random(6)), {"eve": tap([])}) as air:
            return len((await exchange(air, 61))[1])

    assert abs(run_virtual(main()) - COUNT / 2) < 4 * (COUNT / 4) ** 0.5


# --- what a loss does to a reliable connection ------------------------------------------------------------------------


@dataclass
class Deaf:
    """Nobody hears anybody in [begin, end)."""

    begin: float
    end: float

    def __call__(self, sender: str, listener: str, now: float) -> bool:
        return not self.begin <= now < self.end


@pytest.mark.parametrize("bearer", ["rfcomm", "le_advert"])
def test_a_loss_on_rfcomm_is_a_delay(bearer: Bearer) -> None:
    async def main() -> float:
        async with VirtualBluetooth(bearer, Ether(Deaf(1, 4)).heard, {}) as air:
            await asyncio.sleep(2 - asyncio.get_running_loop().time())
            await air.link("alice").send(bytes(30))
            await air.link("bob").receive()
            return asyncio.get_running_loop().time()

    assert 4 < run_virtual(main()) < 4.01


def test_silence_beyond_the_supervision_timeout_ends_the_connection_at_both_ends() -> None:
    async def main() -> float:
        ether = Ether(Deaf(1, 1e9))
        async with VirtualBluetooth("rfcomm", ether.heard, {}) as air:
            alice, bob = air.link("alice"), air.link("bob")
            await asyncio.sleep(5)
            for _ in range(3):
                await alice.send(bytes(30))
            sent_at = asyncio.get_running_loop().time()
            for link in (alice, bob):
                with pytest.raises(LinkClosedError, match=f"the link to {link.peer} ended: they hear nothing more"):
                    await link.receive()
                with pytest.raises(LinkClosedError):
                    await link.send(b"too late")
            ended = asyncio.get_running_loop().time()
            await asyncio.sleep(60)
            with pytest.raises(LinkClosedError):
                await bob.receive()
            assert ether.of("alice", ended) == []
            return ended - sent_at

    assert run_virtual(main()) == pytest.approx(SUPERVISION_TIMEOUT_S, abs=0.01)


@pytest.mark.parametrize("bearer", BEARERS)
def test_devices_that_hear_nothing_of_each_other_cannot_connect(bearer: Bearer) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match=r"^alice and bob hear too little of each other to connect; take a model"):
            async with VirtualBluetooth(bearer, Ether(Deaf(0, 1e9)).heard, {}):
                pass

    run_virtual(main())


def test_a_cancelled_connection_attempt_is_cancelled_and_not_an_error() -> None:
    async def main() -> None:
        async with VirtualBluetooth("rfcomm", Ether(Deaf(0, 1e9)).heard, {}):
            pass

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(main(), 3)

    run_virtual(impatient())


def test_a_loss_model_that_fails_ends_the_run_with_its_own_error() -> None:
    def heard(sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        raise UsageError("the recording is used up")

    async def main() -> None:
        async with VirtualBluetooth("rfcomm", heard, {}):
            pass

    with pytest.raises(UsageError, match="the recording is used up"):
        run_virtual(main())


# --- what Eve gets ----------------------------------------------------------------------------------------------------


def test_eve_has_a_chance_with_each_repetition_and_gets_the_datagram_once() -> None:
    """Bob hears every third packet from Alice only. Eve hears just the first of three."""
    attempts = {"alice": 0, "bob": 0}

    def hears(sender: str, listener: str, now: float) -> bool:
        if listener == "eve":  # asked last of the listeners
            attempts[sender] += 1
            return attempts[sender] % 3 == 1
        return attempts[sender] % 3 == 2

    async def main() -> tuple[list[bytes], list[bytes]]:
        heard: list[bytes] = []
        async with VirtualBluetooth("rfcomm", Ether(hears).heard, {"eve": tap(heard)}) as air:
            sent = datagrams(61, 7)
            for datagram in sent:
                await air.link("alice").send(datagram)
                await asyncio.sleep(PACE)
            await asyncio.sleep(1)
            assert await drain(air.link("bob")) == sent
        return sent, heard

    sent, heard = run_virtual(main())
    assert heard == sent


def test_eve_reads_datagrams_that_were_sent_faster_than_rfcomm_grants_credits() -> None:
    """Each begins with a frame of its own, however many wait."""

    async def main() -> tuple[list[bytes], list[bytes]]:
        heard: list[bytes] = []
        async with VirtualBluetooth("rfcomm", Ether().heard, {"eve": tap(heard)}) as air:
            sent = datagrams(61, 12)
            for datagram in sent:
                await air.link("alice").send(datagram)
            await asyncio.sleep(60)
        return sent, heard

    sent, heard = run_virtual(main())
    assert heard == sent


def test_eve_gets_nothing_of_what_was_sent_while_she_heard_nothing() -> None:
    async def main() -> None:
        heard: list[bytes] = []
        ether = Ether(lambda sender, listener, now: listener != "eve" or not 0.5 <= now < 1.5)
        async with VirtualBluetooth("rfcomm", ether.heard, {"eve": tap(heard)}) as air:
            loop, expected = asyncio.get_running_loop(), []
            for datagram in datagrams(61, 8):
                await air.link("alice").send(datagram)
                if not 0.5 <= loop.time() < 1.5:
                    expected.append(datagram)
                await asyncio.sleep(PACE)
            assert len(await drain(air.link("bob"))) == COUNT
        assert heard == expected
        assert COUNT - 101 <= len(heard) <= COUNT - 99

    run_virtual(main())


def test_eve_gets_a_datagram_of_several_baseband_packets_only_if_she_heard_all_of_them() -> None:
    async def main() -> None:
        ether = Ether(losing(9, eve=0.4))
        heard: list[bytes] = []
        async with VirtualBluetooth("rfcomm", ether.heard, {"eve": tap(heard)}) as air:
            connected = asyncio.get_running_loop().time() + 0.1
            await asyncio.sleep(0.2)
            sent = datagrams(900, 10, 30)
            for datagram in sent:
                await air.link("alice").send(datagram)
                await asyncio.sleep(0.1)
        packets = ether.of("alice", connected)
        assert len(packets) == 3 * len(sent)
        whole = [all("eve" in p for p in packets[i : i + 3]) for i in range(0, len(packets), 3)]
        assert heard == [datagram for datagram, all_heard in zip(sent, whole, strict=True) if all_heard]
        assert 0 < len(heard) < len(sent)

    assert 2 * ACL_PACKET_BYTES < 900 < 3 * ACL_PACKET_BYTES
    run_virtual(main())


@pytest.mark.parametrize("bearer", BEARERS)
def test_each_of_several_eves_gets_what_she_herself_heard(bearer: Bearer) -> None:
    async def main() -> dict[str, list[bytes]]:
        heard: dict[str, list[bytes]] = {"eve": [], "mallory": [], "deaf": []}
        ether = Ether(losing(11, bob=0.2, eve=0.1, mallory=0.6, deaf=1.0))
        async with VirtualBluetooth(bearer, ether.heard, {name: tap(got) for name, got in heard.items()}) as air:
            await exchange(air, ADVERT_BYTES)
        return heard

    heard = run_virtual(main())
    assert len(heard["eve"]) > len(heard["mallory"]) > 0
    assert heard["deaf"] == []
    assert set(heard["mallory"]) - set(heard["eve"])


# --- the same again ---------------------------------------------------------------------------------------------------


def capture(bearer: Bearer, seed: int, path: Path) -> bytes:
    async def main() -> None:
        model = Bernoulli({"bob": 0.2, "eve": 0.3})
        with PcapngWriter(path) as writer:
            eve = CaptureTap(writer)
            async with VirtualBluetooth(bearer, partial(model.transmit, random.Random(seed)), {"eve": eve}) as air:
                await exchange(air, ADVERT_BYTES)

    run_virtual(main())
    return path.read_bytes()


@pytest.mark.parametrize("bearer", ["rfcomm", "l2cap", pytest.param("le_advert", marks=pytest.mark.long)])
def test_the_same_seed_makes_the_same_capture_and_another_seed_another(bearer: Bearer, tmp_path: Path) -> None:
    first = capture(bearer, 1, tmp_path / "1")
    assert first == capture(bearer, 1, tmp_path / "2")
    assert first != capture(bearer, 2, tmp_path / "3")


@pytest.mark.long
def test_the_capture_does_not_depend_on_the_order_in_which_python_hashes_names(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_bluetooth as t;"
        "t.capture('le_advert', 1, pathlib.Path(sys.argv[2]))"
    )
    runs, here = [], str(Path(__file__).parent)
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        runs.append(subprocess.Popen([sys.executable, "-c", script, here, tmp_path / hash_seed], env=environment))
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


# --- tshark reads it --------------------------------------------------------------------------------------------------


HARMLESS = {0x100000, 0x400000}
"""Expert severities comment (ours) and note (bytes that Wireshark has no dissector for): PI_* of its epan/proto.h."""


@pytest.fixture
def tshark() -> Callable[..., list[str]]:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")

    def read(path: Path, *arguments: str) -> list[str]:
        done = subprocess.run(["tshark", "-r", path, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return read


@pytest.mark.parametrize(
    "bearer", ["le_advert", *(pytest.param(name, marks=pytest.mark.long) for name in ("rfcomm", "l2cap"))]
)
def test_tshark_opens_what_eve_heard_without_a_complaint(
    bearer: Bearer, tmp_path: Path, tshark: Callable[..., list[str]]
) -> None:
    path = tmp_path / "eve.pcapng"
    capture(bearer, 3, path)
    severities = tshark(path, "-T", "fields", "-e", "_ws.expert.severity", "-e", "_ws.malformed")
    assert len(severities) > COUNT
    assert {int(number) for row in severities for number in row.replace("\t", "").split(",") if number} <= HARMLESS


def test_tshark_finds_our_datagrams_in_the_rfcomm_channel_that_it_followed(
    tmp_path: Path, tshark: Callable[..., list[str]]
) -> None:
    """Eve hears all here: Wireshark knows an L2CAP channel for RFCOMM by its set-up."""

    async def main() -> list[bytes]:
        with PcapngWriter(tmp_path / "eve.pcapng") as writer:
            async with VirtualBluetooth("rfcomm", Ether().heard, {"eve": CaptureTap(writer)}) as air:
                outward, _, homeward, _ = await exchange(air, 61)
        return outward + homeward

    sent = run_virtual(main())
    rows = tshark(tmp_path / "eve.pcapng", "-Y", "btrfcomm.channel == 1 && data", "-T", "fields", "-e", "data.data")
    assert sorted(bytes.fromhex(row) for row in rows) == sorted(len(d).to_bytes(2) + d for d in sent)


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_wrong_names_and_bearers_are_named_with_the_right_ones() -> None:
    nobody = Ether().heard
    with pytest.raises(UsageError, match="no bearer 'ipsp' in virtual Bluetooth; take rfcomm, l2cap, le_advert"):
        VirtualBluetooth("ipsp", nobody, {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="joins two devices, not 3"):
        VirtualBluetooth("l2cap", nobody, {}, names=("alice", "bob", "carol"))
    with pytest.raises(UsageError, match="no device 'eve' on the air; there are alice and bob"):
        VirtualBluetooth("l2cap", nobody, {"eve": tap([])}).link("eve")

    async def enter(names: tuple[str, str]) -> None:
        async with VirtualBluetooth("l2cap", nobody, {"eve": tap([])}, names):
            pass

    for names in (("eve", "bob"), ("alice", "alice")):
        with pytest.raises(UsageError, match="two devices on the air are named"):
            run_virtual(enter(names))


@pytest.mark.parametrize(
    ("bearer", "mtu", "losses_visible", "broadcast"),
    [("rfcomm", 65535, False, False), ("l2cap", 335, True, False), ("le_advert", 65535, True, True)],
)
def test_a_link_says_what_it_can_do_and_refuses_what_it_cannot(
    bearer: Bearer, mtu: int, losses_visible: bool, broadcast: bool
) -> None:
    async def main() -> None:
        link = VirtualLink("alice", bearer)
        assert (link.mtu, link.traits.losses_visible, link.traits.broadcast) == (mtu, losses_visible, broadcast)
        for size in (0, mtu + 1):
            with pytest.raises(LocalError, match=f"a datagram of {size} bytes does not fit this link; 1 to {mtu} do"):
                await link.send(bytes(size))

    asyncio.run(main())
