"""The command `bt-selfsecure`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from bt_selfsecure import __version__
from bt_selfsecure.cli import client, config, demo, doctor, lab, messages, node, plan
from bt_selfsecure.errors import UsageError

DESCRIPTION = """\
Two small devices agree on a key from the Bluetooth packets that the radio loses,
and talk under a key that rolls at every message (Hao and Xiao, "Self-secure
Communication for Internet of Things"). Begin with:  bt-selfsecure demo
"""
EPILOG = """\
exit status:
  0  done, and the answer is yes
  1  done, and the answer is no (no key, key broken, file not delivered)
  2  input that can't be used; one line says what and what to do
"""


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}: see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    main = Parser(
        "bt-selfsecure",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"bt-selfsecure {__version__}")
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (demo, plan, node, client, messages, config, doctor, lab):
        group.add_parser(commands)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        args = parser().parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        print(f"bt-selfsecure: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 0
    except KeyboardInterrupt:
        print("bt-selfsecure: interrupted; nothing was left half-written", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
