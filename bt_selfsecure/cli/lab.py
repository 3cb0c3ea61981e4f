"""`bt-selfsecure lab`: virtual Pis for people without three Pis."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, NoReturn

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab.client import LabClient, default_folder
from bt_selfsecure.lab.kernel import MIN_MEGABYTES

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.lab.lab import Lab

DESCRIPTION = """\
Boot virtual Pis: machines with Debian's kernel, its real Bluetooth stack and
bluetoothd, each with a controller on a UART like a Pi's. The controllers share
one air, which loses what a radio loses. Machines see this computer's files, so
what is installed here runs there; what they write is gone when they stop, but
for /var/lib/bluetooth and /var/lib/bt-selfsecure.

QEMU runs them: on this CPU where /dev/kvm is and is yours, else on an emulated
one, slower than a Pi's. Without /dev/kvm, `lab kernel` compiles, once, a kernel
that runs as a program and lets machines use this CPU too (User-Mode Linux)."""
EPILOG = """\
example, in two terminals:
  bt-selfsecure lab up alice bob --nodes
  bt-selfsecure lab shell alice       there: bt-selfsecure status --watch
  bt-selfsecure lab kill bob          pull the plug
  bt-selfsecure lab start bob
  bt-selfsecure lab down
"""
ESCAPE = b"\x1d"
"""Ctrl-], as in telnet."""
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `lab` and its commands."""
    lab = commands.add_parser(
        "lab",
        help="virtual Pis with the real Linux Bluetooth stack",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = lab.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up = _verb(verbs, "up", _up, "boot machines; Ctrl-C or `lab down` ends them")
    up.add_argument("machines", nargs="+", metavar="NAME", help="names of the machines, as in alice bob eve")
    own = up.add_mutually_exclusive_group()
    own.add_argument("--nodes", action="store_true", help="run a node on each machine, all peers of each other")
    own.add_argument("--strangers", action="store_true", help="the same, where none knows another: for pair")
    own.add_argument(
        "--system",
        metavar="RELEASE",
        default="",
        help="bookworm, trixie, or one for each machine, as in bookworm,trixie: machines with that Debian on a disk of "
        "their own, and systemd, instead of this computer's files",
    )
    _air_options(up)
    run = _verb(verbs, "run", _run, "run a script on the machines, each with LAB_MACHINE set to its name")
    run.add_argument("script", help="a shell script; - reads it from standard input")
    run.add_argument("--on", nargs="+", metavar="NAME", help="on these machines only; if no lab runs, boot these")
    _air_options(run)
    shell = _verb(verbs, "shell", _shell, "a shell on a machine, as root; Ctrl-] leaves it")
    shell.add_argument("machine")
    for name, what in (
        ("kill", "pull the plug of a machine"),
        ("stop", "shut a machine down"),
        ("start", "boot it again"),
    ):
        verb = _verb(verbs, name, _control, what)
        verb.add_argument("machine", nargs="+")
        if name == "kill":
            verb.add_argument("-9", action="store_true", dest="nine", help="accepted for old habits' sake")
        verb.set_defaults(verb=name)
    air = _verb(verbs, "air", _air, "change the loss model while machines talk")
    air.add_argument("model", help="as in distance:alice=3,bob=3,eve=12 or bernoulli:alice=0.1,bob=0.1,eve=0.3")
    move = _verb(verbs, "move", _move, "change a distance, in a loss model that has distances")
    move.add_argument("machine")
    move.add_argument("metres", type=real(above=0))
    status = _verb(verbs, "status", _status, "machines, their addresses, the air")
    status.add_argument("--json", action="store_true")
    logs = _verb(verbs, "logs", _logs, "what kernel, bluetoothd and btattach of a machine said")
    logs.add_argument("machine")
    _verb(verbs, "down", _down, "end the lab")
    verbs.add_parser(
        "kernel",
        help="compile a kernel with which machines are fast without /dev/kvm; once, 4 to 15 minutes",
        description="Where there is no /dev/kvm for you: compile Debian's newest kernel as a program (User-Mode "
        "Linux). With it virtual Pis run on this computer's CPU instead of an emulated one, some ten times faster. "
        "Once; 140 MB to download, 2 GB of disk meanwhile, 4 to 15 minutes. It is kept in ~/.cache/bt-selfsecure, and "
        "booted once: exit status 1 where it does not boot on this computer.",
    ).set_defaults(run=_kernel)


def _verb(verbs: _SubParsersAction[ArgumentParser], name: str, run: object, what: str) -> ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    verb.add_argument("--lab", type=Path, metavar="DIR", help="the lab's folder, where several run at once")
    verb.set_defaults(run=run)
    return verb


def _air_options(parser: ArgumentParser) -> None:
    parser.add_argument("--air", metavar="MODEL", help="loss model (default: everybody misses a tenth)")
    parser.add_argument("--tap", nargs=2, action="append", metavar=("NAME", "FILE"), default=[],
                        help="a listener without a machine; what it hears is written to FILE (pcapng)")  # fmt: skip
    parser.add_argument("--sniffer", nargs=2, action="append", metavar=("NAME", "FILE"), default=[],
                        help="a tap that hands on damaged advertisements, too: what it misses, with one or two wrong "
                        "bits")  # fmt: skip
    parser.add_argument("--seed", type=integer(least=0), default=1, metavar="N", help="of the losses (default 1)")
    parser.add_argument(
        "--memory", type=integer(least=MIN_MEGABYTES), default=256, metavar="MB", help="of each machine (default 256)"
    )
    parser.add_argument("--runner", choices=["kvm", "uml", "tcg"], metavar="NAME",
                        help="kvm: QEMU on this CPU, where /dev/kvm is and is yours; uml: the kernel is a program on "
                        "this CPU (see lab kernel); tcg: QEMU emulates a CPU, slower than a Pi's (default: the first "
                        "of them that is here)")  # fmt: skip


def _folder(args: Namespace) -> Path:
    return args.lab.absolute() if args.lab else default_folder()


def _client(args: Namespace) -> LabClient:
    return LabClient(_folder(args))


# --- a lab of our own -------------------------------------------------------------------------------------------------


def _up(args: Namespace) -> int:
    async def wait(lab: Lab) -> int:
        for name, machine in lab.status()["machines"].items():
            print(f"{name:<16}  {machine['address']}")
        print("up; Ctrl-C ends the lab", flush=True)
        await lab.is_over.wait()
        return 0

    return _boot(args, args.machines, wait)


def _boot(args: Namespace, names: list[str], work: Callable[[Lab], Awaitable[int]]) -> int:
    try:
        from bt_selfsecure.lab.lab import Lab  # imports Bumble: only where it is used
    except ImportError as error:
        raise UsageError(
            f"a lab needs {error.name}: pi_setup/lab of the checkout installs it, or pip install 'bt-selfsecure[lab]'"
        ) from error
    from bt_selfsecure.lab.runner import Runner

    logging.basicConfig(level=logging.WARNING, format="lab: %(message)s")
    lab = Lab(
        names,
        _folder(args),
        air=args.air,
        taps=[(name, Path(file)) for name, file in args.tap + args.sniffer],
        sniffers=[name for name, _ in args.sniffer],
        seed=args.seed,
        megabytes=args.memory,
        runner=Runner(args.runner) if args.runner else None,
        nodes=getattr(args, "nodes", False),
        strangers=getattr(args, "strangers", False),
        systems=tuple(filter(None, getattr(args, "system", "").split(","))),
        progress=_progress,
    )
    with _ending():
        lab.prepare()
    try:
        return asyncio.run(_in_lab(lab, work))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


@contextmanager
def _ending() -> Iterator[None]:
    """Inside, whoever wants us to end has what was begun removed, as after Ctrl-C."""

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


async def _in_lab(lab: Lab, work: Callable[[Lab], Awaitable[int]]) -> int:
    """Boot machines, do the work, leave nothing behind."""
    from bt_selfsecure.lab.machine import MachineError

    task = asyncio.current_task()
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else lab.is_over.set)
    try:
        async with lab:
            return await work(lab)
    except MachineError as fault:
        raise UsageError(str(fault)) from fault
    except asyncio.CancelledError:
        print("lab: ended; nothing is left behind", file=sys.stderr)
        raise


def _run(args: Namespace) -> int:
    script = _read(args.script)
    client = _client(args)
    if client.is_running:
        return _run_on(client, args.on or list(client.status()["machines"]), script)
    if not args.on:
        raise UsageError("no lab runs: start one with lab up, or name the machines to boot with --on alice bob")

    async def work(lab: Lab) -> int:
        return await asyncio.to_thread(_run_on, client, args.on, script)

    return _boot(args, args.on, work)


def _read(script: str) -> str:
    try:
        return sys.stdin.read() if script == "-" else Path(script).read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"can't read the script {script}: {fault}") from fault


def _run_on(client: LabClient, machines: list[str], script: str) -> int:
    """On all of them at once; the highest exit status."""
    written = Written(several=len(machines) > 1)
    with ThreadPoolExecutor(len(machines)) as pool:
        jobs = [pool.submit(client.stream, name, script, written.by(name)) for name in machines]
        try:
            wait(jobs)
        except KeyboardInterrupt:
            client.hang_up()
            raise
    written.end()
    return max(job.result() for job in jobs)


class Written:
    """Writes what the machines wrote, as they wrote it: nothing stands before a line, or one that fits in a terminal
    would be broken. Of `several` each line is written whole, under the name of its machine where another one's was
    before, as tail(1) does it with files."""

    def __init__(self, *, several: bool) -> None:
        self._several, self._lock, self._last = several, Lock(), ""
        self._begun: dict[tuple[str, str], str] = {}
        """The beginnings of lines, by machine and stream."""

    def by(self, machine: str) -> Callable[[str, str], None]:
        """Return an output for `LabClient.stream`."""
        return lambda name, text: self._write(machine, name, text)

    def end(self) -> None:
        for machine, name in list(self._begun):
            self._write(machine, name, "\n")

    def _write(self, machine: str, name: str, text: str) -> None:
        target = sys.stdout if name == "out" else sys.stderr
        with self._lock:
            if self._several:
                lines, line_end, begun = (self._begun.pop((machine, name), "") + text).rpartition("\n")
                text = lines + line_end
                if begun:
                    self._begun[machine, name] = begun
                if text and machine != self._last:
                    text, self._last = f"==> {machine} <==\n{text}", machine
            print(text, end="", file=target, flush=True)


def _kernel(args: Namespace) -> int:
    from bt_selfsecure.lab import uml
    from bt_selfsecure.lab.runner import Runner, obstacle

    if not obstacle(Runner.KVM, _progress):
        print("not needed: /dev/kvm is here and runs the machines")
        return 0
    with _ending():
        kernel = uml.compile_kernel(_progress)
        why = uml.obstacle(kernel, _progress, anew=True)
    if why:
        print(f"{why}: an emulated CPU runs the machines")
        return 1
    print(kernel.image)
    return 0


# --- a lab that runs --------------------------------------------------------------------------------------------------


def _control(args: Namespace) -> int:
    for machine in args.machine:
        _client(args).do(args.verb, machine=machine)
    return 0


def _air(args: Namespace) -> int:
    _client(args).do("air", model=args.model)
    return 0


def _move(args: Namespace) -> int:
    _client(args).do("move", machine=args.machine, metres=args.metres)
    return 0


def _down(args: Namespace) -> int:
    _client(args).do("down")
    return 0


def _status(args: Namespace) -> int:
    status = _client(args).status()
    if args.json:
        print(json.dumps(status, indent=2))
        return 0
    for name, machine in status["machines"].items():
        print(f"{name:<16}  {machine['address']}  {'running' if machine['running'] else 'off'}")
    for name, file in status["taps"].items():
        print(f"{name:<16}  listens, {file}")
    print(f"air: {status['air']}")
    return 0


def _logs(args: Namespace) -> int:
    print(_client(args).logs(args.machine), end="")
    return 0


def _shell(args: Namespace) -> int:
    """Join this terminal to the machine's console."""
    client = _client(args)
    machines = client.status()["machines"]
    if args.machine not in machines:
        raise UsageError(f"there is no machine {args.machine}; there are {' '.join(machines)}")
    with closing(socket.socket(socket.AF_UNIX)) as console:
        try:
            console.connect(str(_folder(args) / f"{args.machine}.shell"))
        except OSError as fault:
            raise UsageError(f"{args.machine} is off, or another shell has its console") from fault
        print(f"{args.machine}: Ctrl-] leaves this shell", file=sys.stderr)
        columns, lines = shutil.get_terminal_size()
        console.sendall(f" stty rows {lines} cols {columns}; TERM={os.environ.get('TERM', 'dumb')}; clear\n".encode())
        with _raw_terminal():
            _join(console)
    return 0


@contextmanager
def _raw_terminal() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print()


def _join(console: socket.socket) -> None:
    """Copy both ways until the escape character, the end of the input, or of the machine."""
    while True:
        for source in select.select([console, sys.stdin], [], [])[0]:
            data = console.recv(65536) if source is console else os.read(sys.stdin.fileno(), 4096)
            if not data or (source is sys.stdin and ESCAPE in data):
                return
            if source is console:
                os.write(sys.stdout.fileno(), data)
            else:
                console.sendall(data)
