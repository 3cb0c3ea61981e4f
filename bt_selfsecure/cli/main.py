"""The command `bt-selfsecure`."""

from __future__ import annotations

import argparse
import errno
import sys
from argparse import PARSER, REMAINDER
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
    "link": "link",
    "coap": "coap",
    "lab": "lab",
    "eve": "eve",
    "sweep": "sweep",
}
"""Each command's module in this package. Only the one that is called is imported: on a Pi Zero all take seconds."""

OF_A_PATH: Final = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO)
"""What a path's owner, length or disk is to blame for, wherever it is looked at: `Path.exists` raises these, too."""
NO_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Where a disk takes nothing that is written, whoever writes."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. Options may stand anywhere between positional ones: on most versions of
    Python argparse takes an optional FILE for absent when an option comes before it."""

    _is_intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        hands_on = any(action.nargs in (PARSER, REMAINDER) for action in self._get_positional_actions())
        if hands_on or self._is_intermixed:
            return super().parse_known_args(args, namespace)
        self._is_intermixed = True  # it calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixed = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}: see {self.prog} --help")


def parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of the command line, with this command alone or, if it is none, with all; none is needed for
    the version."""
    main = Parser(
        "bt-selfsecure",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"bt-selfsecure {__version__}")
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    if command == "--version":
        return main
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
        if error.errno in (errno.EMFILE, errno.ENFILE):
            status = _refused(f"{error.strerror}: end other programs, or raise `ulimit -n` (of a unit, LimitNOFILE=)")
        elif error.errno in NO_WRITING:
            status = _refused(f"can't write {error.filename or 'the output'} ({error.strerror})")
        elif error.errno in OF_A_PATH and error.filename:
            status = _refused(f"can't get at {str(error.filename)!r} ({error.strerror}): name another place")
        else:
            raise
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
