"""The keeper where there is no such adapter, the kernel's records, and radio switches behind a pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.node.adapter import RFKILL_EVENT, AdapterError, AdapterState, AdapterSupervisor, Switch, Switches
from bt_selfsecure.node.management import AdapterInfo, AdapterSetting, parse_configuration, parse_info

NO_ADAPTER = "hci99"
READ_INFO = bytes.fromhex("020000eb27ba09ffffffbe0100c10a0000000040426c75655a20352e3636").ljust(280, b"\0")
"""What a Debian 12 kernel (6.1.0) said of a virtual Pi's adapter, named "BlueZ 5.66"."""
CONFIGURATION = bytes.fromhex(
    "0000020000010002000802000212000300020000040002000005000200000600020000070002000008000250000900022003"
    "0a000200080b000200080c000202000d000260000e000230000f000200041000021200110002120012000212001300026000"
    "1400023000150002600016000260001700021800180002280019000200001a00022a001b0002a00f1d00022c011e0002f401"
    "1f000100"
)
"""The same machine's default system configuration."""


def async_test(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it in an event loop of its own, for a minute at most."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


@async_test
async def test_without_its_adapter_the_keeper_waits_and_the_node_hears_nothing() -> None:
    told: list[object] = []
    keeper = AdapterSupervisor(NO_ADAPTER, adapter_up=told.append, adapter_gone=told.append)
    await keeper.start()
    assert keeper.state is AdapterState.MISSING
    assert keeper.status()["state"] == "missing"
    assert keeper.status()["address"] is None
    await keeper.stop()
    assert told == []


@async_test
async def test_powering_what_is_not_there_fails_with_one_line() -> None:
    keeper = AdapterSupervisor(NO_ADAPTER)
    await keeper.start()
    with pytest.raises(AdapterError, match=r"^can't power hci99 off and on: .+$"):
        await keeper.power_cycle()
    await keeper.stop()


@async_test
async def test_a_keeper_can_be_stopped_twice_and_never_started() -> None:
    keeper = AdapterSupervisor(NO_ADAPTER)
    await keeper.stop()
    await keeper.start()
    await keeper.stop()
    await keeper.stop()


HERE = {"hci0": "B8:27:EB:00:00:0A", "hci2": "B8:27:EB:00:00:0B"}


@async_test
async def test_an_adapter_is_found_by_its_address_under_whichever_name_it_has_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = dict(HERE)
    monkeypatch.setattr("bt_selfsecure.node.adapter.adapter_addresses", lambda: here)
    keeper = AdapterSupervisor("B8:27:EB:00:00:0B")
    keeper._find()
    assert (keeper.name, keeper._index) == ("hci2", 2)
    here["hci0"], here["hci2"] = here["hci2"], here["hci0"]
    keeper._find()
    assert (keeper.name, keeper._index) == ("hci0", 0)
    del here["hci0"]
    keeper._find()
    assert (keeper.name, keeper._index) == ("B8:27:EB:00:00:0B", None)


A, B, BLANK = HERE["hci0"], HERE["hci2"], "00:00:00:00:00:00"


@pytest.mark.parametrize(
    ("wanted", "former", "seen"),
    [
        # what there is, and which of it is taken
        ("hci0", "", [({"hci0": A}, "hci0"), ({}, "hci0"), ({"hci1": A}, "hci1"), ({"hci0": A}, "hci0")]),
        ("hci0", "", [({"hci0": A, "hci1": B}, "hci0"), ({"hci0": B}, "hci0"), ({"hci0": B, "hci1": A}, "hci1")]),
        ("hci0", "", [({"hci0": A}, "hci0"), ({"hci0": BLANK}, "hci0"), ({"hci0": BLANK, "hci1": A}, "hci1")]),
        ("hci0", "", [({}, "hci0"), ({"hci1": A}, "hci0"), ({"hci0": B, "hci1": A}, "hci0")]),
        ("hci0", A, [({}, "hci0"), ({"hci1": A}, "hci1"), ({"hci1": A, "hci0": B}, "hci1")]),
        ("hci0", A, [({"hci0": BLANK, "hci3": A}, "hci3")]),
        ("hci0", A, [({"hci0": B, "hci1": A}, "hci0")]),  # as configured; the status tells that the keys are another's
        ("hci1", A, [({"hci0": A, "hci1": A}, "hci1"), ({"hci0": A}, "hci0")]),
        (B, A, [({"hci0": A}, B), ({"hci0": A, "hci1": B}, "hci1")]),
    ],
)
@async_test
async def test_an_adapter_that_comes_back_under_another_name_is_found_by_the_address_that_it_had(
    monkeypatch: pytest.MonkeyPatch, wanted: str, former: str, seen: list[tuple[dict[str, str], str]]
) -> None:
    here: dict[str, str] = {}
    monkeypatch.setattr("bt_selfsecure.node.adapter.adapter_addresses", lambda: here)
    keeper = AdapterSupervisor(wanted, former=former)
    for here, name in seen:  # noqa: B007 - the lambda sees it
        keeper._find()
        assert (keeper.name, keeper._index) == (name, None if ":" in name else int(name[3:]))


@async_test
async def test_the_node_is_told_when_the_adapter_that_is_meant_comes_back_beside_another_that_has_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its links, listeners and advertisements were the other one's."""
    here = {"hci0": A}

    class Kernel:
        def __init__(self, heard: Any) -> None:
            pass

        async def info(self, index: int) -> AdapterInfo | None:
            address = here.get(f"hci{index}")
            return parse_info(READ_INFO)._replace(address=address) if address else None

        async def close(self) -> None:
            pass

    monkeypatch.setattr("bt_selfsecure.node.adapter.adapter_addresses", lambda: here)
    monkeypatch.setattr("bt_selfsecure.node.adapter.Management", Kernel)
    told: list[object] = []
    keeper = AdapterSupervisor("hci0", adapter_up=told.append, adapter_gone=told.append)
    for here in ({"hci0": A}, {"hci0": B}, {"hci0": B, "hci1": A}, {"hci0": B, "hci1": A}, {"hci0": B}, {}):
        told.append(dict(here))
        await keeper._look()
    gone, missing = AdapterState.DOWN, AdapterState.MISSING
    assert [event for event in told if not isinstance(event, dict)] == [A, gone, B, gone, A, gone, B, missing]
    await keeper.stop()


@async_test
async def test_where_no_adapter_has_the_name_that_is_wanted_those_that_there_are_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.adapter.adapter_addresses", lambda: {"hci1": B})
    keeper = AdapterSupervisor("hci0")
    await keeper.start()
    assert keeper._missing() == (
        "there is no hci0, but hci1 is B8:27:EB:00:00:0B: plug it in, or set [node] adapter to the one that is meant"
    )
    await keeper.stop()


@async_test
async def test_an_address_that_no_adapter_has_is_told_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.adapter.adapter_addresses", lambda: HERE)
    keeper = AdapterSupervisor("B8:27:EB:00:00:0C")
    await keeper.start()
    assert keeper.state is AdapterState.MISSING
    assert keeper._missing() == (
        "no adapter has the address B8:27:EB:00:00:0C, but hci0 is B8:27:EB:00:00:0A, hci2 is B8:27:EB:00:00:0B: "
        "correct [node] adapter, or plug it in"
    )
    with pytest.raises(AdapterError, match=r"^can't power B8:27:EB:00:00:0C off and on: .+$"):
        await keeper.power_cycle()
    await keeper.stop()


def test_the_kernels_answer_about_an_adapter_is_read() -> None:
    info = parse_info(READ_INFO)
    assert (info.address, info.bluetooth_version) == ("BA:27:EB:00:00:02", 9)
    assert AdapterSetting.POWERED in info.current
    assert {AdapterSetting.SSP, AdapterSetting.BREDR, AdapterSetting.LE, AdapterSetting.SECURE_CONNECTIONS} <= set(
        info.current
    )


@async_test
async def test_a_bearer_that_the_adapter_can_not_carry_is_told_while_that_is_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """BR/EDR is switched off, something else changes, it is on again; then the adapter goes."""
    whole = parse_info(READ_INFO)
    without = whole._replace(current=whole.current & ~AdapterSetting.BREDR)
    off = without._replace(current=without.current & ~AdapterSetting.POWERED)
    told = [whole, without, without, whole, without, off, None]

    async def info(keeper: AdapterSupervisor) -> AdapterInfo | None:
        return told[0]

    monkeypatch.setattr(AdapterSupervisor, "_info", info)
    keeper = AdapterSupervisor(NO_ADAPTER, bearers=["rfcomm", "le_advert"])
    found = []
    while told:
        await keeper._look()
        found.append(len(keeper.misfits))
        told.pop(0)
    assert found == [0, 1, 1, 0, 1, 0, 0]
    assert sum("rfcomm can't work, BR/EDR is switched off on hci99: " in line for line in caplog.messages) == 2


def test_the_kernels_default_configuration_is_read_and_broken_ones_do_not_raise() -> None:
    values = parse_configuration(CONFIGURATION)
    assert len(values) == 31
    assert int.from_bytes(values[0x1A], "little") == 42
    assert values[0x1F] == b"\0"
    for size in range(len(CONFIGURATION)):
        parse_configuration(CONFIGURATION[:size])


class Pipe:
    """A named pipe where /dev/rfkill would be: what is written there is read there, as the kernel repeats a change to
    those who watch."""

    def __init__(self, folder: Path) -> None:
        self.device = folder / "rfkill"
        os.mkfifo(self.device)
        self.keep_open = os.open(self.device, os.O_RDWR | os.O_NONBLOCK)
        self.names = folder / "names"

    def switch(self, index: int, name: str) -> None:
        (self.names / f"rfkill{index}").mkdir(parents=True)
        (self.names / f"rfkill{index}" / "name").write_text(name + "\n")

    def say(self, index: int, kind: int, operation: int, soft: int, hard: int) -> None:
        os.write(self.keep_open, RFKILL_EVENT.pack(index, kind, operation, soft, hard))


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    pipe = Pipe(tmp_path)
    for index, name in enumerate(["phy0", "hci0", "hci1", "tpacpi_bluetooth_sw"]):
        pipe.switch(index, name)
    return pipe


ADD, REMOVE, CHANGE = 0, 1, 2
WLAN, BLUETOOTH = 1, 2


async def settle() -> None:
    await asyncio.sleep(0.05)


@async_test
async def test_a_soft_block_of_the_adapter_is_seen_and_lifted(pipe: Pipe) -> None:
    changes: list[None] = []
    pipe.say(1, BLUETOOTH, ADD, 1, 0)
    switches = Switches(lambda: changes.append(None), pipe.device, pipe.names)
    assert switches.writable
    assert switches.blocking("hci0") == {1: Switch("hci0", soft=True, hard=False)}
    before = len(changes)
    switches.unblock(1)
    await settle()
    assert switches.blocking("hci0") == {}
    assert len(changes) > before
    switches.close()


@async_test
async def test_switches_of_other_radios_and_adapters_do_not_count_and_a_platforms_does(pipe: Pipe) -> None:
    pipe.say(0, WLAN, ADD, 1, 1)
    pipe.say(2, BLUETOOTH, ADD, 1, 0)
    pipe.say(1, BLUETOOTH, ADD, 0, 0)
    switches = Switches(lambda: None, pipe.device, pipe.names)
    assert switches.blocking("hci0") == {}
    pipe.say(3, BLUETOOTH, ADD, 0, 1)
    await settle()
    assert switches.blocking("hci0") == {3: Switch("tpacpi_bluetooth_sw", soft=False, hard=True)}
    pipe.say(3, BLUETOOTH, REMOVE, 0, 0)
    await settle()
    assert switches.blocking("hci0") == {}
    switches.close()


@async_test
async def test_a_block_that_comes_later_is_told(pipe: Pipe) -> None:
    told = asyncio.Event()
    pipe.say(1, BLUETOOTH, ADD, 0, 0)
    switches = Switches(told.set, pipe.device, pipe.names)
    told.clear()
    pipe.say(1, BLUETOOTH, CHANGE, 1, 0)
    await told.wait()
    assert switches.blocking("hci0")[1].soft
    switches.close()
