"""What the air says about nodes, and what a node says of itself where there is no radio."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError
from bt_selfsecure.node import advertiser, beacon
from bt_selfsecure.node.advertiser import Advertiser, Advertising
from bt_selfsecure.node.beacon import SERVICE_UUID, ServiceData, Word
from bt_selfsecure.node.config_file import parse
from bt_selfsecure.node.discovery import LONGEST_NAME, MOST_SIGHTINGS, Discovery, DiscoveryError
from bt_selfsecure.node.haoxiao.settings import PROFILES
from bt_selfsecure.node.nearby import Nearby
from bt_selfsecure.protocols.haoxiao.frames import Profile

ALICE, BOB, STRANGER = "BA:27:EB:00:00:01", "BA:27:EB:00:00:02", "5C:F3:70:00:00:07"
NO_ADAPTER = "hci99"


def async_test(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it in an event loop of its own, for a minute at most."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


def discovery(**changes: Any) -> Discovery:
    return Discovery(
        **{
            "adapter": NO_ADAPTER,
            "name": "alice",
            "profile": Profile.HARDENED,
            "profiles": PROFILES,
            "advertise": False,
            "scan": False,
        }
        | changes
    )


def said_by(address: str, profile: int = 3, version: int = 1) -> dict[str, bytes]:
    return {SERVICE_UUID: beacon.encode(ServiceData(version, profile, beacon.identity_of(address)))}


def test_the_advertisement_has_the_layout_of_the_docstring_and_fits_beside_the_flags() -> None:
    structure = beacon.ad_structure(ServiceData(1, Profile.HARDENED, beacon.identity_of(BOB)))
    assert (
        structure
        == bytes.fromhex(
            "1b21"  # 27 bytes follow; Service Data, 128-bit UUID
            "f935680dc649"
            "6e98"
            "4749"
            "fbc7"
            "49b81f6c"  # the UUID, its last byte first
            "0103"
        )
        + bytes.fromhex(hashlib.sha256(bytes.fromhex("ba27eb000002")).hexdigest()[:16])
    )
    assert len(structure) == 31 - 3


@given(st.builds(ServiceData, st.integers(1, 255), st.integers(0, 255), st.binary(min_size=8, max_size=8)))
def test_service_data_is_read_as_it_was_written(data: ServiceData) -> None:
    assert beacon.decode(beacon.encode(data)) == data


@given(st.binary(max_size=40))
def test_no_bytes_from_the_air_raise(data: bytes) -> None:
    said = beacon.decode(data)
    assert said is None or beacon.encode(said) == data[:10]


def test_a_later_version_may_add_bytes_and_version_1_may_not() -> None:
    ours = beacon.encode(ServiceData(1, 2, bytes(8)))
    assert beacon.decode(ours + b"more") is None
    assert beacon.decode(b"\x02" + ours[1:] + b"more") == ServiceData(2, 2, bytes(8))
    assert beacon.decode(b"\x00" + ours[1:]) is None
    assert beacon.decode(ours[:-1]) is None


@async_test
async def test_a_node_is_sighted_with_name_rssi_profile_and_version() -> None:
    heard: list[str] = []
    found = discovery(on_sighting=heard.append)
    found.hear(STRANGER.lower(), "pi-garden", -71, said_by(STRANGER, profile=1))
    (sighting,) = found.sightings.values()
    assert (sighting.address, sighting.name, sighting.rssi) == (STRANGER, "pi-garden", -71)
    assert (sighting.profile, sighting.version) == ("paper", 1)
    assert heard == [STRANGER]
    assert found.status()["nodes_in_sight"] == 1


@async_test
async def test_a_configured_peer_is_recognised_under_another_address() -> None:
    found = discovery(peers=[ALICE, BOB])
    found.hear("7F:00:00:00:00:01", None, -60, said_by(BOB))
    assert list(found.sightings) == [BOB]


@async_test
async def test_advertisements_of_others_are_no_sightings() -> None:
    found = discovery()
    found.hear(STRANGER, "headphones", -50, {})
    found.hear(STRANGER, "headphones", -50, {"0000feaa-0000-1000-8000-00805f9b34fb": b"\x01\x02" + bytes(8)})
    found.hear(STRANGER, "broken", -50, {SERVICE_UUID: b"\x01\x02"})
    assert found.sightings == {}


@async_test
async def test_an_rssi_that_the_controller_does_not_tell_is_none() -> None:
    found = discovery()
    found.hear(BOB, "bob", 127, said_by(BOB))
    assert found.sightings[BOB].rssi is None


@async_test
async def test_a_name_from_the_air_can_do_nothing_to_a_terminal() -> None:
    found = discovery()
    found.hear(BOB, "\x1b[31mred\r\n\x07\u202e" + "x" * 300, -50, said_by(BOB))
    name = found.sightings[BOB].name
    assert name.isprintable()
    assert name.startswith("[31mred")
    assert len(name) == LONGEST_NAME


@async_test
async def test_a_flood_of_nodes_leaves_the_latest_and_bounded_memory() -> None:
    found = discovery()
    addresses = [f"02:00:00:00:{n >> 8:02X}:{n & 255:02X}" for n in range(3 * MOST_SIGHTINGS)]
    for address in addresses:
        found.hear(address, None, -50, said_by(address))
    assert list(found.sightings) == addresses[-MOST_SIGHTINGS:]


@async_test
async def test_a_profile_that_is_not_ours_is_shown_as_unknown() -> None:
    found = discovery()
    found.hear(BOB, None, -50, said_by(BOB, profile=9, version=3))
    assert (found.sightings[BOB].profile, found.sightings[BOB].version) == ("unknown", 3)


@async_test
async def test_a_scan_without_a_radio_says_so_in_one_line() -> None:
    with pytest.raises(DiscoveryError, match=r"^can't scan(: there is no D-Bus system bus| on hci99) \(.+\): .+$"):
        await discovery().scan(0.1)


@async_test
async def test_a_scan_waits_for_the_end_of_every_pause() -> None:
    found = discovery()
    await found.pause()
    await found.pause()
    scan = asyncio.create_task(found.scan(0.1))
    await found.resume()
    await asyncio.sleep(0.05)
    assert not scan.done()
    await found.resume()
    with pytest.raises(DiscoveryError):
        await scan


@async_test
async def test_a_burst_that_is_given_up_before_the_radio_is_free_leaves_no_pause_behind() -> None:
    config = parse(f'[node]\nadapter = "{NO_ADAPTER}"\n', Path("node.toml")).config
    nearby = Nearby(config, Profile.HARDENED, PROFILES, (), lambda address: None)
    await nearby.begin(NO_ADAPTER)
    await asyncio.sleep(0)  # its advertisement begins

    async def burst() -> None:
        async with nearby.paused():
            raise AssertionError("the radio was free at once")

    given_up = asyncio.create_task(burst())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert given_up.cancelled()
    with pytest.raises(DiscoveryError):
        await nearby.scan(0.1, {})
    await nearby.end()


SLOW_BEACON = """
import time
print("advertising", flush=True)
while line := input().partition(" ")[0]:
    if line in ("pause", "resume"):
        time.sleep(0.2)
        print({"pause": "paused", "resume": "advertising"}[line], flush=True)
"""


@async_test
async def test_a_pause_that_is_given_up_before_the_beacon_obeys_it_keeps_no_node_off_the_air() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advertiser, "python_module", lambda *_: [sys.executable, "-c", SLOW_BEACON])
        air = Advertiser(NO_ADAPTER, "alice", Profile.HARDENED)
        running = asyncio.create_task(air.run())
        while air.state is not Advertising.BLUEZ:
            await asyncio.sleep(0.01)
        pausing = asyncio.create_task(air.pause())
        await asyncio.sleep(0)
        pausing.cancel()
        await asyncio.wait([pausing])
        air.resume()
        for state in (Advertising.PAUSED, Advertising.BLUEZ):
            while air.state is not state:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])


@async_test
async def test_without_a_radio_discovery_starts_pauses_and_stops_and_tells_why_it_is_off() -> None:
    found = discovery(advertise=True, scan=True)
    await found.start()
    while not (found.status()["scan_trouble"] and found.status()["advertising_trouble"]):
        await asyncio.sleep(0.02)
    assert found.status()["advertising"] == Advertising.OFF.value
    await found.pause()
    await found.resume()
    await found.stop()


@async_test
async def test_the_beacon_without_bluetooth_says_one_line_and_ends() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", beacon.__name__, NO_ADAPTER, "alice", "2", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await child.communicate()
    word, _, reason = out.decode().rstrip("\n").partition(" ")
    assert Word(word) in (Word.UNAVAILABLE, Word.GONE)
    assert reason
    assert "\n" not in reason
    assert err == b""
    assert child.returncode == 1


@async_test
async def test_a_status_too_long_for_gatt_is_refused() -> None:
    found = discovery()
    found.set_status({"state": "idle"})
    with pytest.raises(LocalError, match="do not fit"):
        found.set_status({"names": ["x" * 40] * 20})


@given(st.text(max_size=60))
def test_a_name_is_cut_between_characters_to_what_a_scan_response_holds(name: str) -> None:
    short = beacon.short_name(name)
    assert name.startswith(short)
    assert len(short.encode()) <= beacon.LARGEST_NAME_BYTES
    assert short == name or len(short.encode()) > beacon.LARGEST_NAME_BYTES - 4
