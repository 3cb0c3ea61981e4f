"""One virtual Pi, whatever runs it (runner.py), and the jobs that run on it."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.lab import qemu, uml
from bt_selfsecure.lab.console import last_words
from bt_selfsecure.lab.kernel import Kernel, run_tool
from bt_selfsecure.lab.runner import Runner

DISK_MEGABYTES: Final = 64
"""What the machine may keep: link keys and the node's state."""
BOOT_S: Final = 180.0
"""After this a boot has failed. 3 to 15 s are usual; a loaded host may need much longer."""
SYSTEM_BOOT_S: Final = 1200.0
"""The same with systemd, where 10 to 50 s are usual."""
STOP_S: Final = 90.0
"""Then the plug is pulled. A machine without systemd takes one."""
GONE_S: Final = 5.0
"""For the rest of what was killed to end."""
POLL_S: Final = 0.05
LAST_LINES: Final = 15
STAGES: Final = ("connected", "booted", "ready")
NUDGE_S: Final = 0.5
"""A kernel that is a program sometimes misses that a line has something for it (a lost SIGIO; seen once in some 600
resets of an adapter) and then waits for its next signal. So one comes at least this often: HCI commands wait 2 s."""
GUEST_FILES: Final = ("guest.sh", "jobs.sh", "units.sh", "lab-uart.service", "lab-jobs.service")
"""What runs inside: the first without systemd, the last three with it."""


class MachineError(BtSelfSecureError):
    """A machine did not do what was asked; the text ends with its last words."""


class VirtualMachine:
    """Boots with `start`, runs shell commands with `run`. Its files lie in `folder`, which it shares as /lab.

    The machine sees the host's files, read-only below a RAM disk: what it writes is gone when it stops, but for its
    disk, which holds /var/lib/bluetooth and /var/lib/bt-selfsecure. With a system of its own (`Kernel.disk`) it sees
    none of them, and keeps all that it writes.
    """

    def __init__(self, name: str, folder: Path, kernel: Kernel, uart: Path, megabytes: int, runner: Runner) -> None:
        self.name = name
        self._folder, self._kernel, self._uart, self._megabytes, self._runner = folder, kernel, uart, megabytes, runner
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)
        self._jobs: dict[str, asyncio.Future[int]] = {}
        self._reached: dict[str, asyncio.Future[None]] = {}
        """On its way up: "connected", our line to it; "booted", its kernel (not where that was `save`d); "ready", its
        adapter."""
        self._orders: asyncio.StreamWriter | None = None
        self._is_gone = asyncio.Event()
        """Nobody holds its lines any more. Of a program of many processes (uml.py), the first one ends before that."""
        self._is_gone.set()
        self._server: asyncio.Server | None = None
        self._shell: asyncio.Task[None] | None = None
        """Serves the shell's line, where nobody else does."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def shell_socket(self) -> Path:
        """Return a console with a shell of root's, for one at a time."""
        return self._folder.with_suffix(".shell")

    @property
    def console(self) -> Path:
        """Return what kernel and boot script said."""
        return self._folder.with_suffix(".console")

    async def start(self) -> None:
        """Boot; returns when the adapter is up. Raises `MachineError` where it does not get so far."""
        if self.is_running:
            return
        (self._folder / "jobs").mkdir(parents=True, exist_ok=True)
        for name in GUEST_FILES:
            (self._folder / name).write_text(files("bt_selfsecure.lab").joinpath(name).read_text())
        (self._folder / "devices.sh").write_text(uml.DEVICES if self._runner is Runner.UML else qemu.DEVICES)
        (self._folder / "shell.rc").write_text(f"PS1='\\u@\\h:\\w# '\n{self._preparation()}")
        if self._kernel.state is None:
            await self._launch()
        else:
            await self._launch("-incoming", f"exec:cat {shlex.quote(str(self._kernel.state))}")
            await self._until("connected")
            self._order(f"go {self.name} {time.time():.0f}")
        await self._until("ready")

    async def save(self, state: Path) -> None:
        """Boot only as far as all machines are the same, keep the state in a file, and end. Raises `MachineError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self._launch("-monitor", "stdio")
        await self._until("booted")
        if self._process:
            orders = f'migrate "exec:cat >{shlex.quote(str(state))}"\ninfo migrate\nquit\n'
            await self._process.communicate(orders.encode())
        told = re.search(r"Migration status: (.*)", self.said)
        if not told or told[1] != "completed":
            why = told[1] if told else last_words(self.said, LAST_LINES)
            raise MachineError(
                f"the state of a booted machine could not be kept; is there room in {state.parent}? QEMU: {why}"
            )

    async def kill(self) -> None:
        """Pull the plug."""
        if self.is_running and self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(GONE_S):
                    await self._is_gone.wait()
        self._fail_jobs()

    async def stop(self) -> None:
        """Shut down, as far as it still listens."""
        if self.is_running and self._process and self._orders:
            self._order("off")
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                pass
        await self.kill()

    async def close(self) -> None:
        await self.kill()
        if self._server:
            self._server.close()

    async def run(self, command: str, output: Callable[[str, bytes], None]) -> int:
        """Run a shell script there and return its exit status; `output("out" or "err", data)` gets what it writes.

        Cancelling ends the job. Raises `MachineError` where the machine is off, or goes off meanwhile.
        """
        if not self.is_running or self._orders is None:
            raise MachineError(f"{self.name} is off: start it with lab start {self.name}")
        job = str(next(self._numbers))
        base = self._folder / "jobs" / job
        base.with_suffix(".sh").write_text(self._preparation() + command + "\n")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._jobs[job] = done
        self._order(f"run {job}")
        read = dict.fromkeys(("out", "err"), 0)
        try:
            while True:
                finished = done.done()
                for name in read:
                    read[name] += _copy(base.with_suffix(f".{name}"), read[name], name, output)
                if finished:
                    return done.result()
                await asyncio.wait((done,), timeout=POLL_S)
        except asyncio.CancelledError:
            self._order(f"stop {job}")
            raise
        finally:
            self._jobs.pop(job, None)

    @property
    def said(self) -> str:
        """Return its console, and what its runner said."""
        paths = (self.console, self._folder.with_suffix(".runner"))
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def command(self, lines: Sequence[socket.socket] = ()) -> list[str]:
        """Return the command that starts it; `lines` are the ends of its serial lines where it is a program."""
        place = (self._kernel, self._folder, self.console)
        if self._runner is Runner.UML:
            return uml.command(*place, lines, self._megabytes)
        return qemu.command(*place, self._uart, self._megabytes, with_kvm=self._runner is Runner.KVM)

    # --- how it works

    async def _launch(self, *options: str) -> None:
        self._make_disk()
        self._reached = {stage: asyncio.get_running_loop().create_future() for stage in STAGES}
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._serve, self._folder.with_suffix(".jobs"))
        with self._folder.with_suffix(".runner").open("wb") as log:
            lines: list[socket.socket] = []
            if self._runner is Runner.UML:
                shell, end = socket.socketpair()
                self._shell = asyncio.create_task(uml.serve_line(self.shell_socket, shell), name="shell")
                lines = [_connected(self._uart), end, _connected(self._folder.with_suffix(".jobs"))]
            self._process = await asyncio.create_subprocess_exec(
                *self.command(lines),
                *options,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                pass_fds=[line.fileno() for line in lines],
            )
            for line in lines:
                line.close()

    async def _until(self, stage: str) -> None:
        reached, seconds = self._reached[stage], SYSTEM_BOOT_S if self._kernel.disk else BOOT_S
        ended = asyncio.ensure_future(self._process.wait()) if self._process else reached
        await asyncio.wait((reached, ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not reached.done():
            what = f"did not boot within {seconds:g} s" if self.is_running else "went off while it booted"
            await self.kill()
            raise MachineError(f"{self.name} {what}. Its last words:\n{last_words(self.said, LAST_LINES)}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The other end of the machine's job port."""
        self._orders = writer
        self._is_gone.clear()
        self._reach("connected")
        nudge = asyncio.create_task(self._nudge(), name="nudge")
        try:
            while line := (await reader.readline()).decode(errors="replace").split():
                match line:
                    case [stage] if stage in STAGES:
                        self._reach(stage)
                    case ["done", job, status] if job in self._jobs and not self._jobs[job].done():
                        self._jobs[job].set_result(int(status))
        except ConnectionError:
            pass  # its plug was pulled
        finally:
            nudge.cancel()
            self._orders = None
            self._is_gone.set()
            self._fail_jobs()

    async def _nudge(self) -> None:
        """An empty order, which nobody obeys, now and then, where the kernel needs it."""
        if self._runner is not Runner.UML:
            return
        await asyncio.shield(self._reached["ready"])
        while True:
            await asyncio.sleep(NUDGE_S)
            self._order("")

    def _reach(self, stage: str) -> None:
        if not self._reached[stage].done():
            self._reached[stage].set_result(None)

    def _order(self, line: str) -> None:
        if self._orders:
            self._orders.write(f"{line}\n".encode())

    def _fail_jobs(self) -> None:
        for done in self._jobs.values():
            if not done.done():
                done.set_exception(MachineError(f"{self.name} went off while a job ran there"))

    def _preparation(self) -> str:
        """Where the host's files are seen, jobs run as if they were on the host."""
        if self._kernel.disk:
            return ""
        source = shlex.quote(os.environ.get("PYTHONPATH", ""))
        path, folder = shlex.quote(sys.prefix), shlex.quote(str(Path.cwd()))
        return f"export PATH={path}/bin:$PATH PYTHONPATH={source}\ncd {folder}\n"

    def _make_disk(self) -> None:
        disk = self._folder.with_suffix(".disk")
        if disk.exists():
            return
        if self._kernel.disk:
            run_tool(["cp", "--sparse=always", str(self._kernel.disk), str(disk)], f"{self.name} gets no disk")
        else:
            with disk.open("wb") as file:
                file.truncate(DISK_MEGABYTES << 20)
            run_tool(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", str(disk)], f"{self.name} gets no disk")


def _connected(path: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.connect(str(path))
    return end


def _copy(path: Path, offset: int, name: str, output: Callable[[str, bytes], None]) -> int:
    if not path.exists() or path.stat().st_size <= offset:
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    output(name, data)
    return len(data)
