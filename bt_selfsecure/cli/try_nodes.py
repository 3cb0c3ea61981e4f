"""`bt-selfsecure try`: two nodes on this computer, and a pulled plug."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.numbers import real
from bt_selfsecure.cli.terminal import columns
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.isolated import FOLDER
from bt_selfsecure.node.two_nodes import ADDRESSES, HOST, SIGNALS, TwoNodes

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

MOST_LOSS: Final = 0.5
KEY_S: Final = 120.0
DELIVERY_S: Final = 60.0
LOOK_S: Final = 0.25
PLUG_S: Final = 2.0
"""For which it stays pulled."""
HELLO: Final = "hello, bob"
SURVIVED: Final = "did you survive?"
LOG_LINES: Final = 5
DESCRIPTION: Final = """\
Run two nodes, alice and bob, on this computer: the real daemon, twice, as
yourself, without Bluetooth. They agree on a key, alice sends a message, bob is
killed and started again, and nothing is lost. It takes half a minute.

They talk over UDP on 127.0.0.1, and each loses a tenth of what comes to it.
These losses are drawn by this program, no radio: whoever reads 127.0.0.1 (root
of this computer) misses nothing of what makes the key, and X25519 alone keeps
it secret. What losses are worth on a radio: `bt-selfsecure demo`, `plan`.
"""
EPILOG: Final = """\
examples:
  bt-selfsecure try
      The story, and then nothing is left of it.
  bt-selfsecure try --stay
      Then both run on, for commands of your own, until Ctrl-C.
  bt-selfsecure try --folder two
      Keep configurations, state and logs. To run each in a terminal of its own:
      bt-selfsecure node --config two/alice.toml

exit status:
  0  all went as told
  1  it did not
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `try` and its options."""
    parser = subparsers.add_parser(
        "try",
        help="two nodes on this computer, without Bluetooth: a key, a message, a pulled plug",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stay", action="store_true", help="let both run on until Ctrl-C")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where they live, and stay; configurations in it are kept"
    )
    parser.add_argument(
        "--loss",
        type=real(least=0, most=MOST_LOSS),
        default=0.1,
        metavar="P",
        help=f"share that is lost, 0..{MOST_LOSS:g} (default 0.1)",
    )
    parser.set_defaults(run=run)


class _WentWrongError(BtSelfSecureError):
    """Not as told; the text says what."""


def run(args: Namespace) -> int:
    """Tell the story. Ctrl-C ends it at any moment, and then nothing runs any more."""
    with signals_as_ctrl_c(), folder_for(args.folder) as folder:
        nodes = TwoNodes(folder, args.loss)
        try:
            _Story(nodes, args.loss).tell()
            if args.stay:
                _stay(nodes, kept=args.folder is not None)
        except _WentWrongError as error:
            say(f"\n{error}. The last words of their logs:")
            for name in ADDRESSES:
                say("\n".join(nodes.log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]))
            return 1
        finally:
            for number in SIGNALS:  # a second Ctrl-C must not leave anything behind either
                signal.signal(number, signal.SIG_IGN)
            nodes.stop()
    return 0


@contextlib.contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Let a terminal that is closed end what was started as well. After one of them this process ends: no other
    changes how."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        yield
    finally:
        if not isinstance(sys.exception(), KeyboardInterrupt):
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """Yield this folder, or else one that is gone afterwards."""
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="bt-selfsecure-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Story:
    """What is done, as one would type it, and what came of it."""

    def __init__(self, nodes: TwoNodes, loss: float) -> None:
        self._nodes, self._loss = nodes, loss

    def tell(self) -> None:
        """Raises `_WentWrongError`; `UsageError` where a node can't be run."""
        say(f"Two nodes on this computer. They talk over UDP on {HOST}, no radio, and each")
        say(f"loses {100 * self._loss:g} % of what comes to it: such losses are drawn by this program and keep")
        say("nothing secret. X25519 alone keeps a listener out.")
        for name in ADDRESSES:
            self._start(name)
        wait("They agree on a key", KEY_S, lambda: all(map(self._is_connected, ADDRESSES)))
        self._run("alice", "status")
        self._run("alice", "send", "bob", text=HELLO)
        self._receive(HELLO)
        say("\nNow bob's plug is pulled. What alice sends meanwhile is on her disk.")
        prompt(f"kill -9 {self._nodes.processes['bob'].pid}")
        self._nodes.kill("bob")
        self._run("alice", "send", "bob", text=SURVIVED)
        time.sleep(PLUG_S)
        self._start("bob")
        wait("They find their key again", DELIVERY_S, self._is_all_well)
        self._receive(SURVIVED)
        for name in ADDRESSES:
            self._run(name, "peers")
        say("\nOne key at both ends, and each message once.")

    def _start(self, name: str) -> None:
        prompt(f"bt-selfsecure node --config {self._config(name)} &")
        self._nodes.start(name)

    def _receive(self, text: str) -> None:
        """All that bob has is this message."""
        wait("It arrives", DELIVERY_S, lambda: self._peer("bob")["queues"]["inbox"] > 0)
        came = self._run("bob", "receive", "--raw")
        if came != f"{text}\n":
            raise _WentWrongError(f"bob received {came!r} and not {text!r}")

    def _peer(self, name: str) -> dict[str, Any]:
        return self._nodes.client(name).peers()[0]

    def _is_connected(self, name: str) -> bool:
        return bool(self._peer(name)["state"] == "connected")

    def _is_all_well(self) -> bool:
        keys = {self._peer(name)["key"]["fingerprint"] for name in ADDRESSES}
        waiting = self._peer("alice")["queues"]["outbox"]
        return len(keys) == 1 and not waiting and all(map(self._is_connected, ADDRESSES))

    def _config(self, name: str) -> str:
        return shlex.quote(str(self._nodes.config(name)))

    def _run(self, name: str, *words: str, text: str = "") -> str:
        """A command of `name`'s, shown with what it prints. Raises `_WentWrongError` where it fails."""
        line = f"bt-selfsecure {shlex.join(words)} --config {self._config(name)}"
        prompt(f"echo {shlex.quote(text)} | {line}" if text else line)
        done = subprocess.run(
            self._nodes.command(*words, "--config", str(self._nodes.config(name))),
            input=f"{text}\n" if text else "",
            stdout=subprocess.PIPE,
            text=True,
            cwd=FOLDER,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode:
            raise _WentWrongError(f"`bt-selfsecure {words[0]}` ended with {done.returncode}")
        return done.stdout


def _stay(nodes: TwoNodes, *, kept: bool) -> None:
    """Until Ctrl-C; who is killed is started again."""
    alice, bob = (shlex.quote(str(nodes.config(name))) for name in ADDRESSES)
    say("")
    say("Both run on, and are started again if you kill them. In other terminals, say:")
    say(f"    bt-selfsecure status --watch --config {alice}")
    say(f"    bt-selfsecure pipe bob --config {alice}")
    say(f"    bt-selfsecure pipe alice --config {bob}")
    say(f"    kill -9 {nodes.processes['bob'].pid}")
    say("Ctrl-C ends both" + ("." if kept else f", and removes {nodes.folder}."))
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
            for name, process in list(nodes.processes.items()):
                if process.poll() is not None:
                    time.sleep(PLUG_S)
                    nodes.start(name)
                    say(f"{name} was gone, and runs again: kill -9 {nodes.processes[name].pid}")
    print()


def say(text: str) -> None:
    print(text, flush=True)


def prompt(line: str) -> None:
    say(f"\n$ {line}")


class Dots:
    """Shows that something goes on: `doing`, and a dot each second, in lines that fit the terminal."""

    def __init__(self, doing: str) -> None:
        self._column = len(doing)
        self._next = time.monotonic() + 1
        print(doing, end="", flush=True)

    def go_on(self) -> None:
        """Print the next dot, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next += 1
        if self._column >= columns():
            self._column = 0
            print()
        self._column += 1
        print(".", end="", flush=True)


def wait(doing: str, seconds: float, is_done: Callable[[], bool]) -> None:
    """Wait, with a dot every second that says that it goes on. Raises `_WentWrongError` if it takes too long."""
    if is_done():
        return
    began = time.monotonic()
    print()
    dots = Dots(f"{doing} ")
    while not is_done():
        if time.monotonic() - began > seconds:
            raise _WentWrongError(f"not in {seconds:.0f} s")
        dots.go_on()
        time.sleep(LOOK_S)
    say(f" {time.monotonic() - began:.1f} s")
