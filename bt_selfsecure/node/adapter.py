"""Keeps the adapter at work: it knows what state hciN is in, and brings it back when it went down or was blocked.

It listens to the kernel's management interface and to /dev/rfkill, so that bluetoothd is not needed, and recovers as
users of Home Assistant expect: unblock the radio switch, power on, power off and on; with back-off and jitter. It can't
bring back an adapter that is not there, nor one that a hardware switch blocks: it says so and waits. Watching needs no
privilege; powering needs CAP_NET_ADMIN, unblocking needs write access to /dev/rfkill.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import logging
import os
import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.hci import adapter_addresses, adapter_number
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.fitness import misfits
from bt_selfsecure.node.management import (
    AdapterInfo,
    AdapterSetting,
    Event,
    Management,
    ManagementError,
    ManagementStatus,
    Opcode,
)
from bt_selfsecure.sansio.back_off import BackOff

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 2.0
"""bluetoothd powers the adapters that it finds within a second; let it."""
NO_ADDRESS: Final = "00:00:00:00:00:00"
"""Of an adapter that was never set up."""

RFKILL: Final = Path("/dev/rfkill")
NAMES: Final = Path("/sys/class/rfkill")
RFKILL_EVENT: Final = struct.Struct("=IBBBB")
"""struct rfkill_event (kernel include/uapi/linux/rfkill.h): index, type, operation, soft, hard."""
RFKILL_BLUETOOTH: Final = 2
RFKILL_REMOVED: Final = 1
RFKILL_CHANGE: Final = 2


class AdapterError(BtSelfSecureError):
    """The adapter can't be made to do it; the text says what would help."""


class AdapterState(enum.Enum):
    """Says what is the matter with the adapter."""

    UP = "up"
    DOWN = "down"
    """There, and off."""
    BLOCKED = "blocked"
    """Off, and a radio switch (rfkill) keeps it so."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Switch:
    """Says whose one Bluetooth radio switch is, and whether it blocks (rfkill)."""

    name: str
    """The adapter's, or of a platform's switch that takes the adapter away altogether."""
    soft: bool
    hard: bool


class Switches:
    """Knows the Bluetooth radio switches of this machine, kept up to date from /dev/rfkill."""

    def __init__(self, on_change: Callable[[], None], device: Path = RFKILL, names: Path = NAMES) -> None:
        """Raises OSError where there is no rfkill."""
        self._names = names
        self._on_change = on_change
        self._switches: dict[int, Switch] = {}
        try:
            self._file = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.writable = True
        except PermissionError:
            self._file = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.writable = False
        self._read()
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._file)
        os.close(self._file)

    def blocking(self, adapter: str) -> dict[int, Switch]:
        """Return, by index, the switches that block this adapter now: its own, or a platform's."""
        return {
            index: switch
            for index, switch in self._switches.items()
            if (switch.soft or switch.hard) and (switch.name == adapter or not switch.name.startswith("hci"))
        }

    def unblock(self, index: int) -> None:
        """Lift a soft block. Raises OSError."""
        os.write(self._file, RFKILL_EVENT.pack(index, RFKILL_BLUETOOTH, RFKILL_CHANGE, 0, 0))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while event := os.read(self._file, RFKILL_EVENT.size):
                self.take(event)
        self._on_change()

    def take(self, event: bytes) -> None:
        """Take one struct rfkill_event of the kernel's."""
        index, kind, operation, soft, hard = RFKILL_EVENT.unpack(event)
        if kind != RFKILL_BLUETOOTH:
            return
        if operation == RFKILL_REMOVED:
            self._switches.pop(index, None)
            return
        known = self._switches.get(index)
        self._switches[index] = Switch(known.name if known else self._name(index), bool(soft), bool(hard))

    def _name(self, index: int) -> str:
        try:
            return (self._names / f"rfkill{index}" / "name").read_text().strip()
        except OSError:  # it went while we looked
            return ""


class AdapterSupervisor:
    """Watches one adapter, named hciN or by its device address, from `start` to `stop`.

    The kernel gives names as adapters come: one that was pulled out, or reset, may come back under another. So hciN is
    the adapter that has this name first, wherever it is later; where it is gone, whichever has the name. `former` is
    the address that a node was known by: where there is no hciN it is looked for.

    `adapter_up` is called with its address each time it begins to work, `adapter_gone` with what became of it each time
    it ceases to; never twice the same. Both run in the event loop and must not block.
    """

    def __init__(
        self,
        adapter: str,
        *,
        former: str = "",
        bearers: Iterable[str] = (),
        adapter_up: Callable[[str], None] = lambda address: None,
        adapter_gone: Callable[[AdapterState], None] = lambda state: None,
    ) -> None:
        self.state = AdapterState.MISSING
        self.address: str | None = None
        """The last one known."""
        self.trouble = ""
        """Why it does not come up; one sentence and a remedy, for people."""
        self.misfits: tuple[str, ...] = ()
        """Why some of `bearers` can't work while it is up."""
        self.recoveries = 0
        """How often it came back."""
        self.name = adapter
        """As in hci0, also where the address was given, once there is one that has it."""
        self._wanted = adapter
        self._meant = adapter if ":" in adapter else ""
        """Address of the adapter that is meant; empty as long as there was none."""
        self._former = former
        self._index: int | None = None if ":" in adapter else adapter_number(adapter)
        self._bearers = tuple(bearers)
        self._adapter_up, self._adapter_gone = adapter_up, adapter_gone
        self._management: Management | None = None
        self._switches: Switches | None = None
        self._changed = asyncio.Event()
        self._was_up = False
        self._fell = False
        self._retry = BackOff(FIRST_RETRY_S)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin. Where there is no adapter, or no Bluetooth at all, `state` is MISSING and we wait for it."""
        if self._task is None:
            await self._look()
            self._task = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")

    async def stop(self) -> None:
        """Leave the adapter as it is."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._close()

    async def power_cycle(self) -> None:
        """Power it off and on, for an adapter that is up but no longer works. Raises `AdapterError`."""
        try:
            await self._power(False)
            await self._power(True)
        except (OSError, BearerError, ManagementError) as error:
            raise AdapterError(f"can't power {self.name} off and on: {self._reason(error)}") from error

    def status(self) -> dict[str, Any]:
        """Return what the node's status says of the adapter, JSON-able."""
        return {
            "name": self.name,
            "state": self.state.value,
            "address": self.address,
            "trouble": self.trouble,
            "recoveries": self.recoveries,
        }

    async def _keep(self) -> None:
        due: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            if self.state is AdapterState.UP:
                self._retry.reset()
                due = None
            elif due is None:
                self._retry.failed(clock(), random.random())
                due = self._retry.until
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            except TimeoutError:
                due = None
                await self._recover()
            self._changed.clear()
            await self._look()

    async def _look(self) -> None:
        """Bring `state` up to date, and tell the node what changed."""
        before, info = self.state, await self._info()
        fell, self._fell = self._fell, False
        self.state = self._judge(info)
        if info is not None:
            fell |= info.address != self.address
            self.address = info.address
        self._judge_bearers(info)
        if self.state is not before:
            log.info("%s is %s", self.name, self.state.value)
        if before is AdapterState.UP and (fell or self.state is not AdapterState.UP):
            self._adapter_gone(AdapterState.DOWN if self.state is AdapterState.UP else self.state)
        if info is not None and self.state is AdapterState.UP and (fell or before is not AdapterState.UP):
            self.trouble = ""
            self.recoveries += self._was_up
            self._was_up = True
            self._adapter_up(info.address)

    def _judge(self, info: AdapterInfo | None) -> AdapterState:
        if info is not None and AdapterSetting.POWERED in info.current:
            return AdapterState.UP
        if self._switches is not None and self._switches.blocking(self.name):
            return AdapterState.BLOCKED
        return AdapterState.MISSING if info is None else AdapterState.DOWN

    def _judge_bearers(self, info: AdapterInfo | None) -> None:
        found: tuple[str, ...] = ()
        if info is not None and self.state is AdapterState.UP:
            found = tuple(misfits(self._bearers, self.name, info.supported, info.current))
        for misfit in found:
            if misfit not in self.misfits:
                log.warning("%s", misfit)
        self.misfits = found

    async def _info(self) -> AdapterInfo | None:
        try:
            if self._management is None:
                self._management = Management(self._heard)
            if self._switches is None:
                with contextlib.suppress(OSError):  # a kernel without rfkill blocks nothing
                    self._switches = Switches(self._changed.set)
            self._find()
            return None if self._index is None else await self._management.info(self._index)
        except (OSError, BearerError, ManagementError) as error:
            await self._close()
            self._say(f"can't ask the kernel about {self.name}: {self._reason(error)}")
            return None

    def _find(self) -> None:
        """Under which name the adapter that is meant is here now."""
        here = {name: address for name, address in adapter_addresses().items() if address != NO_ADDRESS}
        if not self._meant and (first := here.get(self._wanted, self._former)) in here.values():
            self._meant = first
        names = [name for name, address in here.items() if address == self._meant]
        name = self._wanted if self._wanted in names or not names else names[0]
        if name != self.name:
            log.info("%s is %s", self._meant or self._wanted, name)
            self._fell |= self.state is AdapterState.UP
        self.name = name
        self._index = None if ":" in name else adapter_number(name)

    def _missing(self) -> str:
        """In a sentence: why there is no adapter."""
        here = ", ".join(f"{name} is {address}" for name, address in adapter_addresses().items())
        if ":" in self._wanted and here:
            return f"no adapter has the address {self._wanted}, but {here}: correct [node] adapter, or plug it in"
        if here:
            return f"there is no {self._wanted}, but {here}: plug it in, or set [node] adapter to the one that is meant"
        return f"there is no {self._wanted}: plug it in, or see its driver's words in dmesg"

    def _heard(self, event: int, index: int, parameters: bytes) -> None:
        """A fall that is over before we look must not be missed: links and advertisements went with it."""
        if index == self._index:
            off = event == Event.NEW_SETTINGS and not int.from_bytes(parameters[:4], "little") & AdapterSetting.POWERED
            self._fell |= off or event == Event.INDEX_REMOVED
        self._changed.set()

    async def _recover(self) -> None:
        """One try to bring it up."""
        try:
            if self.state is AdapterState.BLOCKED:
                self._unblock()
            elif self.state is AdapterState.DOWN:
                if self._retry.failures % 2 == 0:  # on did not help the last time
                    await self._power(False)
                await self._power(True)
            elif self._management is not None:
                self._say(self._missing())
        except (OSError, BearerError, ManagementError) as error:
            self._say(f"can't bring {self.name} up: {self._reason(error)}")

    def _unblock(self) -> None:
        assert self._switches is not None
        for index, switch in self._switches.blocking(self.name).items():
            if switch.hard:
                self._say(f"a hardware switch blocks {switch.name}: turn Bluetooth on there")
            elif not self._switches.writable:
                self._say(f"{switch.name} is blocked and {RFKILL} is not ours to write: sudo rfkill unblock bluetooth")
            else:
                log.warning("unblocking the radio switch of %s", switch.name)
                self._switches.unblock(index)

    async def _power(self, on: bool) -> None:
        if self._management is None or self._index is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        await self._management.command(Opcode.SET_POWERED, self._index, bytes([on]))

    async def _close(self) -> None:
        if self._management is not None:
            await self._management.close()
            self._management = None
        if self._switches is not None:
            self._switches.close()
            self._switches = None

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning(trouble)
        self.trouble = trouble

    @staticmethod
    def _reason(error: OSError | BearerError | ManagementError) -> str:
        """What it means and what helps."""
        match error:
            case ManagementError(status=ManagementStatus.PERMISSION_DENIED):
                return "that needs CAP_NET_ADMIN, which the systemd unit gives and root has"
            case ManagementError(status=ManagementStatus.RFKILLED):
                return "a radio switch blocks it: sudo rfkill unblock bluetooth"
            case ManagementError(status=ManagementStatus.INVALID_INDEX):
                return "it is not there"
            case OSError(errno=errno.EAFNOSUPPORT):
                return "this kernel has no Bluetooth: sudo modprobe bluetooth"
            case TimeoutError():
                return "it does not answer: restart what attaches it, or the machine"
        return str(error)
