"""The command `bt-selfsecure`."""

from __future__ import annotations

import argparse
import errno
import sys
from argparse import PARSER, REMAINDER, HelpFormatter
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from bt_selfsecure import __version__
from bt_selfsecure.cli import streams
from bt_selfsecure.cli.commands import Command, add_commands
from bt_selfsecure.cli.terminal import columns
from bt_selfsecure.errors import UsageError
from bt_selfsecure.wording import printable

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
    "demo": Command("demo", "see it: a key, a file, an eavesdropper, a stolen key that dies"),
    "plan": Command("plan", "packets, seconds and bytes for a key of a given strength"),
    "try": Command("try_nodes", "two nodes on this computer, without Bluetooth: a key, a message, a pulled plug"),
    "node": Command("node", "run the daemon on this machine"),
    "status": Command("client", "the node, its peers, and on what the secrecy rests", "add_status"),
    "peers": Command("client", "one line a peer", "add_peers"),
    "establish": Command("client", "agree on a new key with a peer now", "add_establish"),
    "confirm": Command("confirm", "say that a peer is the one that you mean"),
    "pair": Command("pair_group", "make two devices know each other: QR code, words, sound, light, NFC", is_group=True),
    "scan": Command("client", "which nodes are near", "add_scan"),
    "send": Command("messages", "send a message to a peer", "add_send"),
    "receive": Command("messages", "print received messages", "add_receive"),
    "pipe": Command("messages", "a stream in each direction, like nc", "add_pipe"),
    "group": Command("group", "one to many: a broadcast that each member receives once", is_group=True),
    "report": Command("operations", "one file to attach to a bug report", "add_report"),
    "backup": Command("operations", "copy the node's state to a file", "add_backup"),
    "restore": Command("operations", "put a backup in the place of the node's state", "add_restore"),
    "state": Command("operations", "move the node's state aside, to begin with new keys", "add_state"),
    "metrics": Command("operations", "figures of the running node, for Prometheus", "add_metrics"),
    "log-level": Command("operations", "log more or less, at once", "add_log_level"),
    "config": Command("config", "check the node's configuration, or print it with every key explained"),
    "setup": Command("setup", "install a node on this Pi, upgrade or remove it"),
    "doctor": Command("doctor", "is this machine fit for the node, and if not, what to do"),
    "key": Command("key", "keys for other programs: files, WireGuard, OSCORE, IKEv2"),
    "link": Command("link", "an IP interface over Bluetooth (IPSP), for any program"),
    "bootstrap": Command("bootstrap_group", "installers' keys become the network's own (Kang)", is_group=True),
    "coap": Command("coap", "CoAP over D-OTP, Sabour's handshake, DTLS-PSK, or plain"),
    "iotcrypto": Command("iotcrypto", "certificates and trust of IoT networks"),
    "device": Command("device", "a device of an IoT network"),
    "gateway": Command("gateway", "a gateway of an IoT network"),
    "cloud": Command("cloud", "the cloud server of an IoT network"),
    "bench": Command("bench", "what the protocols cost beside others, measured here"),
    "lab": Command("lab", "virtual Pis with the real Linux Bluetooth stack"),
    "eve": Command("eve_group", "what an eavesdropper hears, keeps, computes and tries", is_group=True),
    "sweep": Command("sweep_group", "measure losses against distance, and what they are worth", is_group=True),
}

OF_A_PATH: Final = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EIO)
"""What a path's owner, length or disk is to blame for, wherever it is looked at: `Path.exists` raises these, too."""
NO_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Where a disk takes nothing that is written, whoever writes."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. Options may stand anywhere between positional ones: on most versions of
    Python argparse takes an optional FILE for absent when an option comes before it."""

    _is_intermixed = False

    def __init__(
        self, prog: str | None = None, *, formatter_class: Callable[..., HelpFormatter] = HelpFormatter, **how: Any
    ) -> None:
        # Of its own accord argparse imports shutil for the width, at each option.
        super().__init__(prog, formatter_class=lambda **of: formatter_class(width=columns() - 2, **of), **how)

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


def parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line: as much of it as these words need, or all."""
    main: argparse.ArgumentParser = Parser(
        "bt-selfsecure",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"bt-selfsecure {__version__}")
    add_commands(
        main.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=main.prog), COMMANDS, words
    )
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
        status = streams.INTERRUPTED
    streams.drop_output()
    if status == streams.INTERRUPTED and arguments is None:
        streams.leave(status)
    return status


def _run(words: Sequence[str]) -> int:
    try:
        args = parser(words).parse_args(words)
        status: int = args.run(args)
    except SystemExit:  # argparse has shown help or the version
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _refused(why: str) -> int:
    print("bt-selfsecure:", "\n".join(map(printable, why.split("\n"))), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
