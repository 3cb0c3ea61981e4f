"""A lab: machines and their radios, and the socket by which other programs use them while `lab up` runs.

Each connection to the control socket carries one request, a line of JSON, and its answers, lines of JSON; the last
answer has "done": the exit status of a job, or 0; or "error". Requests:

    {"do": "status"}                                        one answer: machines, air
    {"do": "run", "machine": M, "command": SHELL SCRIPT}    "out" and "err" as they come; closing the connection ends it
    {"do": "kill" | "stop" | "start", "machine": M}         the plug is pulled; shut down; boot
    {"do": "air", "model": SPEC}                            a loss model of `air.models.parse_model`
    {"do": "move", "machine": M, "metres": X}               where the model has distances
    {"do": "logs", "machine": M}                            console and services, as "out"
    {"do": "down"}                                          the lab ends
"""

from __future__ import annotations

import asyncio
import codecs
import compileall
import json
import os
import shutil
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any, Final, Self

from bt_selfsecure.air.capture import CaptureTap, PcapngWriter, Sniffer
from bt_selfsecure.air.models import Bernoulli, parse_model
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.lab import uml
from bt_selfsecure.lab.kernel import QEMU, TOOLS, Kernel, kernel, require_tools
from bt_selfsecure.lab.machine import VirtualMachine
from bt_selfsecure.lab.radio import DEFAULT_LOSS, VirtualRadio, address
from bt_selfsecure.lab.runner import Runner, best_runner
from bt_selfsecure.lab.snapshot import booted
from bt_selfsecure.lab.system import system as make_system

MAX_MACHINES: Final = 16
MAX_SOCKET_PATH_BYTES: Final = 80
"""Bytes of the folder's path: a Unix socket's whole path has at most 107 (unix(7))."""
LOG_LINES: Final = 200
LOGS: Final = "cat /run/lab/*.log 2>/dev/null; journalctl -b -n 100 2>/dev/null; dmesg | tail -n 100"


class Lab:
    """Is an asynchronous context manager, once `prepare` is done: inside, the machines are up.

    `air` is a loss model's spec; None loses a tenth for everybody. `taps` gives each listener without a machine, by
    name, the pcapng file of what it hears; those of `sniffers` hand on advertisements with a wrong CRC, too. `runner`
    is the best that is here unless one is named. `nodes` runs a node on each machine, peers of each other; `strangers`,
    of nobody. `systems` are Debian releases, one for all machines or one for each, with which each is a computer of its
    own; with none they see the host's files. Raises `UsageError` for what can't be, `MachineError` where a boot fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        air: str | None = None,
        taps: Sequence[tuple[str, Path]] = (),
        sniffers: Collection[str] = (),
        seed: int = 1,
        megabytes: int = 256,
        runner: Runner | None = None,
        nodes: bool = False,
        strangers: bool = False,
        systems: Sequence[str] = (),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        _require_names([*names, *(name for name, _ in taps)], len(names))
        self._taps, self._sniffers = dict(taps), sniffers
        if len(str(folder)) > MAX_SOCKET_PATH_BYTES:
            raise UsageError(f"the path {folder} is too long for a socket in it: name a folder nearer to the root")
        self._names, self._folder, self._progress = list(names), folder, progress
        _require_memory(megabytes, len(names))
        self._megabytes, self._runner = megabytes, runner
        if len(systems) not in (0, 1, len(names)):
            raise UsageError(f"{len(systems)} systems for {len(names)} machines: name one for all, or one for each")
        self._peers: list[str] | None = list(names) if nodes else [] if strangers else None
        """Of each machine's node; None where none is run."""
        self._systems = list(systems) * (len(names) if len(systems) == 1 else 1)
        listeners = [*self._names, *self._taps]
        self._air = LossProcess(Bernoulli(dict.fromkeys(listeners, DEFAULT_LOSS)), Random(seed))
        self._spec = f"bernoulli:{','.join(f'{name}={DEFAULT_LOSS}' for name in listeners)}"
        if air is not None:
            self._set_air(air)
        self._prepared: tuple[Runner, list[Kernel]] | None = None
        """What runs the machines, and what each boots from."""
        self._machines: dict[str, VirtualMachine] = {}
        self._radio: VirtualRadio | None = None
        self._server: asyncio.Server | None = None
        self._writers: list[PcapngWriter] = []
        self.is_over = asyncio.Event()
        """Set when somebody asked for the end."""

    def prepare(self) -> tuple[Runner, list[Kernel]]:
        """Choose what runs the machines, and have what they boot from: on first use that is fetched or made, by other
        programs, in minutes. Interrupted, it leaves nothing behind."""
        _require_free(self._folder)
        require_tools(TOOLS)
        runner = self._runner or best_runner(self._progress)
        program = None
        if runner is Runner.UML:
            program = uml.compile_kernel(self._progress, newest=False)
            if why := uml.obstacle(program, self._progress):
                raise UsageError(why)
            program = replace(program, memory=uml.place_of_memory(self._megabytes * len(self._names)))
        else:
            require_tools(QEMU)
        if self._systems:
            systems = [make_system(release, self._progress) for release in self._systems]
            bases = [replace(program, disk=base.disk) if program else base for base in systems]
        else:
            # Each machine would compile for itself what is not compiled yet, at every boot.
            compileall.compile_dir(str(files("bt_selfsecure")), quiet=2)
            bases = [program or kernel(self._progress)] * len(self._names)
        self._prepared = runner, bases
        return runner, bases

    async def __aenter__(self) -> Self:
        runner, bases = self._prepared or self.prepare()
        _take(self._folder)
        try:
            if runner is not Runner.UML and not self._systems:
                bases = [await booted(bases[0], self._megabytes, runner, self._progress)] * len(self._names)
            await self._start(bases, runner)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _start(self, bases: Sequence[Kernel], runner: Runner) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._folder / "control")
        self._writers = [PcapngWriter(path) for path in self._taps.values()]
        taps = {
            name: Sniffer(writer, self._air.random) if name in self._sniffers else CaptureTap(writer)
            for name, writer in zip(self._taps, self._writers, strict=True)
        }
        self._radio = VirtualRadio(self._air, self._names, taps, self._folder)
        await self._radio.start()
        for name, base in zip(self._names, bases, strict=True):
            uart = self._radio.socket(name)
            self._machines[name] = VirtualMachine(name, self._folder / name, base, uart, self._megabytes, runner)
        self._progress(f"booting {' '.join(self._names)} ({runner})")
        await _together(self._boot(machine) for machine in self._machines.values())

    async def _boot(self, machine: VirtualMachine) -> None:
        if machine.is_running:
            return
        try:
            await machine.start()
            if self._peers is not None:
                await machine.run(_node_script(machine.name, self._peers), lambda name, data: None)
        except asyncio.CancelledError:  # it would pass for one that has booted
            await machine.kill()
            raise

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        await asyncio.gather(*(machine.close() for machine in self._machines.values()), return_exceptions=True)
        if self._radio:
            self._radio.close()
        for writer in self._writers:
            writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def answer(**values: Any) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(values).encode() + b"\n")

        try:
            request = json.loads(await reader.readline())
            work = asyncio.ensure_future(self._answer(request, answer))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not work.done():
                work.cancel()
            with suppress(asyncio.CancelledError):
                answer(done=await work)
        except BtSelfSecureError as fault:
            answer(error=str(fault))
        except (ValueError, KeyError, TypeError) as fault:
            answer(error=f"a request that is none: {fault!r}")
        finally:
            with suppress(ConnectionError):
                await writer.drain()
            writer.close()

    async def _answer(self, request: dict[str, Any], answer: Callable[..., None]) -> int:
        decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("out", "err")}

        def output(name: str, data: bytes) -> None:
            answer(**{name: decoders[name].decode(data)})

        match request["do"]:
            case "status":
                answer(**self.status())
            case "run":
                return await self._machine(request["machine"]).run(request["command"], output)
            case "kill":
                await self._machine(request["machine"]).kill()
            case "stop":
                await self._machine(request["machine"]).stop()
            case "start":
                await self._boot(self._machine(request["machine"]))
            case "air":
                self._set_air(request["model"])
            case "move":
                self._machine(request["machine"])
                self._air.move(request["machine"], float(request["metres"]))
            case "logs":
                machine = self._machine(request["machine"])
                answer(out="\n".join(machine.said.replace("\r", "").splitlines()[-LOG_LINES:]) + "\n")
                if machine.is_running:
                    await machine.run(LOGS, output)
            case "down":
                self.is_over.set()
            case unknown:
                raise UsageError(f"the lab can't do {unknown!r}")
        return 0

    def status(self) -> dict[str, Any]:
        """Return {"machines": {name: {"address", "running"}}, "air", "taps"}"""
        machines = {
            name: {"address": address(number), "running": name in self._machines and self._machines[name].is_running}
            for number, name in enumerate(self._names, 1)
        }
        return {"machines": machines, "air": self._spec, "taps": {name: str(path) for name, path in self._taps.items()}}

    def _machine(self, name: str) -> VirtualMachine:
        if name not in self._machines:
            raise UsageError(f"there is no machine {name}; there are {' '.join(self._machines)}")
        return self._machines[name]

    def _set_air(self, spec: str) -> None:
        model = parse_model(spec)
        listeners = [*self._names, *self._taps]
        for sender in self._names:  # a model that lacks a figure says so now, not while machines talk
            others = [name for name in listeners if name != sender]
            parse_model(spec).transmit(self._air.random, sender, others, 0.0)
        self._air.model, self._spec = model, spec


def _require_names(names: Sequence[str], machines: int) -> None:
    for name in names:
        if not (name.isascii() and name.isalnum() and len(name) <= 16 and name[0].isalpha()):
            raise UsageError(f"{name!r} is no name for a machine: take 1 to 16 letters and digits, as in alice")
        if names.count(name) > 1:
            raise UsageError(f"two listeners are named {name}: give each its own name")
    if not 1 <= machines <= MAX_MACHINES:
        raise UsageError(f"a lab has 1 to {MAX_MACHINES} machines")


def _require_memory(megabytes: int, machines: int) -> None:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if megabytes * machines > there:
        raise UsageError(f"{machines} times {megabytes} MB is more than the {there} MB of this computer: less --memory")


def _require_free(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(folder / "control")) == 0:
            raise UsageError(f"a lab runs in {folder} already: end it with lab down, or name another with --lab")


def _take(folder: Path) -> None:
    """Make the folder ours. Raises `UsageError` where a lab runs in it; what a killed one left behind is removed."""
    _require_free(folder)
    if (folder / "control").exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as fault:
        raise UsageError(f"{folder} can't be made for the lab ({fault.strerror}): name another with --lab") from fault


def _node_script(name: str, names: Sequence[str]) -> str:
    """Configures a node where it looks first, and starts it. Its bound on Eve's misses is what DEFAULT_LOSS gives."""
    text = f'[node]\nname = "{name}"\n\n[establish]\neve_loss_bound = {DEFAULT_LOSS}\n'
    for number, other in enumerate(names, 1):
        if other != name:
            text += f'\n[[peer]]\nname = "{other}"\naddress = "{address(number)}"\n'
    return (
        f"mkdir -p /etc/bt-selfsecure\ncat >/etc/bt-selfsecure/node.toml <<'END'\n{text}END\n"
        "setsid bt-selfsecure node >/run/lab/node.log 2>&1 </dev/null &\n"
    )


async def _together(works: Any) -> None:
    """All of them; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
