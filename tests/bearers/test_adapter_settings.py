"""What is set of an adapter for our peers' sake, of which BlueZ 5.82 refuses some at times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bluetoothd import Bluetoothd

from bt_selfsecure.bearers import bluez
from bt_selfsecure.bearers.pairing import Pairing


@pytest.mark.parametrize("needed", [True, False])
def test_an_adapter_that_is_discoverable_for_a_time_is_left_so(bus: None, needed: bool, tmp_path: Path) -> None:
    async def test() -> None:
        memory = tmp_path / "before"
        async with Bluetoothd(Discoverable=True, DiscoverableTimeout=77, Connectable=True) as bluetoothd:
            before = dict(bluetoothd.settings)
            adapter = await bluez.BlueZ.prepare("hci0", Pairing(needed=lambda: needed, memory=memory))
            assert adapter
            assert bluetoothd.settings == {**before, "Pairable": needed}
            await adapter.close()
            assert bluetoothd.settings == before
            assert not memory.exists()

    asyncio.run(test())


def test_an_adapter_stays_connectable_when_its_time_of_being_discoverable_is_over(
    bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bluez, "READY_S", 0.01)

    async def test() -> None:
        async with Bluetoothd(Discoverable=True, DiscoverableTimeout=77, Connectable=True) as bluetoothd:
            adapter = await bluez.BlueZ.prepare("hci0", Pairing(answers=False))
            assert adapter
            bluetoothd.settings |= {"Discoverable": False, "Connectable": False}
            async with asyncio.timeout(30):
                while not bluetoothd.settings["Connectable"]:
                    await asyncio.sleep(0.01)
            await adapter.close()

    asyncio.run(test())


def test_what_was_made_discoverable_meanwhile_is_hidden_again_and_no_longer_connectable(bus: None) -> None:
    async def test() -> None:
        async with Bluetoothd(Discoverable=False, DiscoverableTimeout=180, Connectable=False) as bluetoothd:
            before = dict(bluetoothd.settings)
            adapter = await bluez.BlueZ.prepare("hci0", Pairing())
            assert adapter
            bluetoothd.settings |= {"Discoverable": True, "DiscoverableTimeout": 900}
            await adapter.close()
            assert bluetoothd.settings == before

    asyncio.run(test())
