"""Keeps the node on the air: by the beacon's child process, or by raw HCI where bluetoothd can't advertise."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import struct
from asyncio.subprocess import PIPE, Process
from typing import Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.system_bus import SystemBusError, require_system_bus
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node import beacon
from bt_selfsecure.node.beacon import ServiceData, Word
from bt_selfsecure.sansio.back_off import LAST_RETRY_S, BackOff

log = logging.getLogger(__name__)

OBEY_S: Final = 5.0
"""A beacon that has not obeyed by then is killed; its advertisement goes with its D-Bus connection."""
START_S: Final = 60.0
"""For its first word: a Python has to start and to import bluezero, on the smallest Pi while it boots."""
REFRESH_S: Final = 15.0
"""A reset of the controller takes a raw advertisement away in silence, so it is set anew as often."""
READ_BD_ADDR: Final = 0x1009
LE_SET_SCAN_RESPONSE_DATA: Final = 0x2009
SCANNABLE: Final = 2
"""ADV_SCAN_IND: it can't be connected to, and gives its name to who asks."""
INTERVAL_UNITS: Final = 1600
"""In units of 0.625 ms: one second."""


class Advertising(enum.Enum):
    """Says by what means the node is on the air."""

    OFF = "off"
    """By none: not wanted, or not possible at the moment."""
    BLUEZ = "bluez"
    """bluezero and bluetoothd, with the GATT status service."""
    RAW_HCI = "raw-hci"
    """Without that service."""
    PAUSED = "paused"
    """A burst has the radio."""


class Advertiser:
    """Advertises while `run` runs; `pause` and `resume` are for bursts over the same radio."""

    def __init__(self, adapter: str, name: str, profile: int) -> None:
        self.state = Advertising.OFF
        self.trouble = ""
        """Why it is not what it could be; one sentence, for people."""
        self._adapter, self._name, self._profile = adapter, name, profile
        self._status = b"{}"
        self._without_bluez = ""
        """Why raw HCI has to do."""
        self._child: Process | None = None
        self._free, self._wanted, self._silent = asyncio.Event(), asyncio.Event(), asyncio.Event()
        """The radio is ours; it is wanted for a burst; nothing of ours is on the air."""
        self._woken = asyncio.Event()
        self._free.set()
        self._silent.set()

    async def run(self) -> None:
        """Advertise until cancelled; then the child has ended, and nothing of ours is on the air."""
        clock = asyncio.get_running_loop().time
        retry = BackOff()
        bluezero_is_here = True
        while True:
            await self._free.wait()
            began = clock()
            if bluezero_is_here:
                self._without_bluez = ""
                bluezero_is_here = await self._by_bluez() is not Word.UNAVAILABLE
            if self._without_bluez:
                await self._by_raw_hci()
            if clock() - began > LAST_RETRY_S:
                retry.reset()
            retry.failed(clock(), random.random())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(retry.until):
                    await self._woken.wait()
            self._woken.clear()

    async def pause(self) -> None:
        """Return when the node is off the air; it stays so until `resume`."""
        self._free.clear()
        self._wanted.set()
        if self.state is Advertising.BLUEZ:
            self._tell("pause")
        elif self.state is Advertising.OFF and self._child is not None:  # only starting, and deaf until it advertises
            self._child.kill()
        try:
            async with asyncio.timeout(OBEY_S):
                await self._silent.wait()
        except TimeoutError:
            if self._child is not None:
                self._child.kill()
            await self._silent.wait()

    def resume(self) -> None:
        """Go back on the air, soon."""
        self._wanted.clear()
        self._free.set()
        if self.state is Advertising.PAUSED:
            self._tell("resume")

    def wake(self) -> None:
        """Try again now, if it is off the air: things have changed."""
        self._woken.set()

    def show(self, status: bytes) -> None:
        """Let the GATT service show this line from now on."""
        self._status = status
        self._tell("status " + status.decode())

    def _tell(self, line: str) -> None:
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.write(line.encode() + b"\n")

    def _is(self, state: Advertising) -> None:
        self.state = state
        if state in (Advertising.BLUEZ, Advertising.RAW_HCI):
            self._silent.clear()
        else:
            self._silent.set()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    async def _by_bluez(self) -> Word:
        """Until the child ends; its last word."""
        last, reason = Word.GONE, ""
        child = None
        self._silent.clear()
        try:
            child = self._child = await asyncio.create_subprocess_exec(
                *python_module(beacon.__name__, "--", self._adapter, self._name, str(self._profile)),
                cwd=FOLDER,
                stdin=PIPE,
                stdout=PIPE,
                start_new_session=True,
            )
            if self._wanted.is_set():
                return last
            self._tell("status " + self._status.decode())
            assert child.stdout is not None
            async with asyncio.timeout(START_S) as start:
                async for line in child.stdout:
                    start.reschedule(None)
                    word, _, reason = line.decode(errors="replace").strip().partition(" ")
                    with contextlib.suppress(ValueError):  # a line of somebody else's
                        last = Word(word)
                        self._take(last, reason)
        except TimeoutError:
            reason = f"no answer in {START_S:g} s"
        except OSError as error:
            reason = f"its process can't be started, {error.strerror}"
        finally:
            self._child = None
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
            self._is(Advertising.OFF)
        if last is Word.GONE and (reason or not self._wanted.is_set()):
            self._say(await _why_gone(reason or "its process ended without a word"))
        return last

    def _take(self, word: Word, reason: str) -> None:
        """One line of the child's."""
        match word:
            case Word.ADVERTISING:
                self._say("")
                self._is(Advertising.BLUEZ)
            case Word.PAUSED:
                self._is(Advertising.PAUSED)
                if not self._wanted.is_set():  # given up before it was obeyed
                    self._tell("resume")
            case Word.STATUS_SERVICE:
                log.warning("bluetoothd refuses the GATT status service (%s); nothing else depends on it", reason)
            case Word.REFUSED:
                self._without_bluez = f"bluetoothd refuses to advertise ({reason}), as on some kernels, see doctor"
            case Word.UNAVAILABLE:
                self._without_bluez = f"bluezero is not usable ({reason})"

    async def _by_raw_hci(self) -> None:
        """Until it fails, and then bluetoothd may be tried again."""
        try:
            while True:
                await self._free.wait()
                self._silent.clear()
                await self._set_raw(True)
                self._is(Advertising.RAW_HCI)
                self._say(f"{self._without_bluez}: raw HCI advertises instead, without the GATT status service")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_S):
                        await self._wanted.wait()
                if self._wanted.is_set():
                    await self._set_raw(False)
                    self._is(Advertising.PAUSED)
        except BearerError as error:
            self._say(f"{self._without_bluez}; nor can raw HCI advertise: {error}")
        finally:
            if not self._silent.is_set():
                with contextlib.suppress(BearerError):
                    await self._set_raw(False)
            self._is(Advertising.OFF)

    async def _set_raw(self, on: bool) -> None:
        """Core Vol 4 Part E 7.8.5 to 7.8.9. Raises `BearerError`."""
        controller = hci.HciSocket(self._adapter)
        try:
            with contextlib.suppress(hci.HciError):  # some refuse to switch off what is not on
                await controller.command(hci.LE_SET_ADVERTISING_ENABLE, b"\0")
            if not on:
                return
            address = ":".join(f"{octet:02X}" for octet in reversed(await controller.command(READ_BD_ADDR)))
            said = ServiceData(beacon.VERSION, self._profile, beacon.identity_of(address))
            name = beacon.short_name(self._name).encode()
            parameters = struct.pack("<HHBBB6sBB", INTERVAL_UNITS, INTERVAL_UNITS, SCANNABLE, 0, 0, bytes(6), 7, 0)
            await controller.command(hci.LE_SET_ADVERTISING_PARAMETERS, parameters)
            await controller.command(hci.LE_SET_ADVERTISING_DATA, _padded(beacon.ad_structure(said)))
            await controller.command(LE_SET_SCAN_RESPONSE_DATA, _padded(bytes([len(name) + 1, 0x09]) + name))
            await controller.command(hci.LE_SET_ADVERTISING_ENABLE, b"\1")
        finally:
            controller.close()


async def _why_gone(reason: str) -> str:
    """Where nobody can be asked at all, libdbus has few words for it."""
    try:
        await require_system_bus()
    except SystemBusError as error:
        return f"can't advertise: {error}"
    return f"can't advertise ({reason}): see bt-selfsecure doctor"


def _padded(data: bytes) -> bytes:
    """As the commands want it: its length, and 31 bytes."""
    return bytes([len(data)]) + data.ljust(31, b"\0")
