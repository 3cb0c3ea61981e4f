"""Bearers whose user is cancelled half way: nothing stays behind on the air, at the helper, at bluetoothd, or open."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from bluetoothd import Bluetoothd

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.bluez import BlueZ
from bt_selfsecure.bearers.ipsp_kernel import HelperClient
from bt_selfsecure.bearers.le_advert import REPAIR_S, LeAdvertBearer
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.relay import RelayBearer, RelayedLink, RelayWays
from bt_selfsecure.node import advertiser

BOB = "BA:27:EB:00:00:02"


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=30)


HELPER = """
import sys
from pathlib import Path
from bt_selfsecure.bearers.ipsp_helper import Helper, serve
serve(sys.stdin, sys.stdout, Helper(Path(sys.argv[1])))
"""


def test_an_answer_of_the_ipsp_helper_that_nobody_waits_for_is_not_taken_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "6lowpan_control").write_text(f"{BOB.lower()} (type 1)\n")

    async def test() -> None:
        command = sys.executable, "-c", HELPER, str(tmp_path)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        assert process.stdout
        assert process.stdin
        helper = HelperClient(process.stdout, process.stdin, process)
        asking = asyncio.create_task(helper.ask("connect", "nobody"))
        await asyncio.sleep(0)
        await cancelled(asking)
        assert await helper.ask("peers") == [BOB]
        await helper.close()

    asyncio.run(test())


class Wire(socket.socket):
    """One end of what is to a program as a raw HCI socket."""

    def setsockopt(self, *_: Any) -> None:
        """Filters are the kernel's."""


class Controller:
    """Answers each command with success, and knows what it was told."""

    def __init__(self) -> None:
        self.on = {hci.LE_SET_SCAN_ENABLE: False, hci.LE_SET_ADVERTISING_ENABLE: False}

    def open(self, _adapter: str, _number: int | None = None) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        asyncio.get_running_loop().add_reader(ours, self._obey, ours)
        return Wire(fileno=theirs.detach())

    def _obey(self, sock: socket.socket) -> None:
        packet = sock.recv(300)
        if not packet:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
            return
        _, opcode, _ = struct.unpack_from("<BHB", packet)
        if opcode in self.on:
            self.on[opcode] = bool(packet[4])
        returned = bytes(6) if opcode == advertiser.READ_BD_ADDR else b""
        sock.send(struct.pack("<BBBBHB", 4, 0x0E, 4 + len(returned), 1, opcode, 0) + returned)


def test_a_link_by_advertisements_whose_end_is_cut_short_leaves_the_air(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        controller = Controller()
        monkeypatch.setattr(hci, "_open", controller.open)
        link = await LeAdvertBearer("hci0").connect(BOB)
        await link.send(b"a datagram")
        assert all(controller.on.values())
        closing = asyncio.create_task(link.close())
        await asyncio.sleep(0)
        await cancelled(closing)
        await asyncio.sleep(2 * REPAIR_S)
        assert not any(controller.on.values())

    asyncio.run(test())


def test_a_raw_advertisement_that_is_cut_short_as_it_begins_leaves_the_air(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = [sys.executable, "-c", 'print("refused by this kernel")']
    monkeypatch.setattr(advertiser, "python_module", lambda *_: refusing)

    async def test() -> None:
        controller = Controller()
        monkeypatch.setattr(hci, "_open", controller.open)
        running = asyncio.create_task(advertiser.Advertiser("hci0", "alice", 2).run())
        async with asyncio.timeout(30):
            while not controller.on[hci.LE_SET_ADVERTISING_ENABLE]:
                await asyncio.sleep(0)
        await cancelled(running)
        assert not controller.on[hci.LE_SET_ADVERTISING_ENABLE]

    asyncio.run(test())


def test_a_link_through_others_that_opens_as_its_dialling_is_given_up_is_ended_once() -> None:
    async def test() -> None:
        ended: list[tuple[str, int]] = []
        bearer = RelayBearer(
            RelayWays(1000, lambda peer: 1, lambda peer, number, data: True, lambda *place: ended.append(place))
        )
        dialling = asyncio.create_task(bearer.connect(BOB))
        await asyncio.sleep(0)
        bearer.opened(RelayedLink(bearer, BOB, 1, ()), dialled=True)
        await cancelled(dialling)
        await bearer.close()
        assert ended == [(BOB, 1)]

    asyncio.run(test())


def test_what_was_set_at_bluetoothd_is_put_back_where_the_rest_is_cut_short(bus: None) -> None:
    async def test() -> None:
        async with Bluetoothd(Connectable=False) as bluetoothd:
            bluetoothd.registers_agents = False
            preparing = asyncio.create_task(BlueZ.prepare("hci0", Pairing()))
            await asyncio.wait_for(bluetoothd.asked_for_agent.wait(), 30)
            await cancelled(preparing)
        assert bluetoothd.told == [("Connectable", True), ("Connectable", False)]

    asyncio.run(test())
