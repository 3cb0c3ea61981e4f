"""The command `bt-selfsecure`."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from bt_selfsecure import __version__
from bt_selfsecure.cli import streams
from bt_selfsecure.errors import UsageError

DESCRIPTION = """\
Two small devices agree on a key from the Bluetooth packets that the radio
loses, and talk under a key that rolls at every message (Hao and Xiao,
"Self-secure Communication for Internet of Things"). Begin with:

  bt-selfsecure demo
"""
EPILOG = """\
exit status:
  0  done, and the answer is yes
  1  done, and the answer is no (no key, key broken, file not delivered)
  2  input that can't be used; one line says what and what to do
"""


COMMANDS: Final = {
    "demo": "demo",
    "plan": "plan",
    "try": "try_nodes",
    "node": "node",
    "status": "client",
    "peers": "client",
    "establish": "client",
    "scan": "client",
    "send": "messages",
    "receive": "messages",
    "pipe": "messages",
    "report": "operations",
    "backup": "operations",
    "restore": "operations",
    "state": "operations",
    "metrics": "operations",
    "log-level": "operations",
    "config": "config",
    "setup": "setup",
    "doctor": "doctor",
    "lab": "lab",
    "eve": "eve",
    "sweep": "sweep",
}
"""Each command's module in this package. Only the one that is called is imported: on a Pi Zero all take seconds."""


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line. With `options_anywhere` options may stand between positional ones, also
    where there may be any number of these."""

    def __init__(self, *args: Any, options_anywhere: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options_anywhere = options_anywhere

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self._options_anywhere:
            return super().parse_known_args(args, namespace)
        self._options_anywhere = False  # which it calls itself
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._options_anywhere = True

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}: see {self.prog} --help")


def parser(command: str = "") -> argparse.ArgumentParser:
    """The command line, with this command alone or, if it is none, with all."""
    main = Parser(
        "bt-selfsecure",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"bt-selfsecure {__version__}")
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values()):
        import_module(f"bt_selfsecure.cli.{module}").add_parser(commands)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Without `arguments`, that of this process, on its own streams."""
    if arguments is None:
        streams.take()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        status = _run(words)
    except UsageError as error:
        status = _refused(str(error))
    except BrokenPipeError:  # whoever read our output has seen enough
        status = 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        status = _refused(f"can't write {error.filename or 'the output'} ({error.strerror})")
    except KeyboardInterrupt:
        print("bt-selfsecure: interrupted; nothing was left half-written", file=sys.stderr)
        status = 130
    streams.drop_output()
    return status


def _run(words: Sequence[str]) -> int:
    try:
        args = parser(words[0] if words else "").parse_args(words)
        status: int = args.run(args)
    except SystemExit:  # argparse has shown help or the version
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _refused(why: str) -> int:
    print(f"bt-selfsecure: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
