"""`bt-selfsecure report`, `backup`, `restore`, `state`, `metrics`, `log-level`: what whoever runs a node needs."""

from __future__ import annotations

import os
import sys
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from bt_selfsecure.cli.client import client_parser, node_client, progress
from bt_selfsecure.cli.terminal import columns, wrapped
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import LOG_LEVELS, STATE_DIRECTORY
from bt_selfsecure.node.config_file import read
from bt_selfsecure.node.where import DEFAULT_PATH, find_path
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

REPORT_HEAD: Final = """\
Report of bt-selfsecure, {when}. It holds no key and no message.
{redacted}
"""
REDACTED: Final = "Redacted: stand-ins in <> replace device addresses, names of nodes and computers, and users."
NOT_REDACTED: Final = "NOT redacted: it names devices and their addresses. For others use --redact."
REPORT_TEXT: Final = """\
Write one text file with what a bug report needs: versions, configuration,
status, the doctor's findings, the logs. It holds no key and no message. With
--redact it holds no device address and no name of a node either, but the same
stand-in for the same device throughout. Look through it before you attach it.
With sudo it sees more."""
BACKUP_TEXT: Final = """\
Copy the node's state (keys, queues, where each session stands, peers that were
paired) to FILE, also while the node runs. FILE HOLDS THE KEYS: who has it can
read what is sent under them, and pass for this node or a paired peer. Keep it
as you keep a key, and delete it when you have a newer one.
/etc/bt-selfsecure is not in it: copy that as well, for a new card."""
RESTORE_TEXT: Final = """\
Put a backup, or a folder that was set aside, in the place of the node's state.
Stop the node first. What was there moves to a folder beside it, with the time
in its name: delete it when all is well.

The keys in FILE may be older than what the peers have. The session is safe from
that: while both ends still have a checkpoint in common (at most two times
checkpoint_rounds back) they resynchronise to a fresh key; beyond that the peer
refuses the old one, and a new key is agreed on by itself in a minute or two. A
peer that has confirmed this node asks for a person first, there:
bt-selfsecure establish NODE --without-continuity.
It is not safe from a thief of that backup, or of a disk as old as it, who reads
on from there. If in doubt: bt-selfsecure establish PEER, for each of them.

Peers that were paired are those of FILE then. Where it has none, those that are
there stay. bt-selfsecure pair forget NAME takes one out.

Messages that waited in FILE to be sent are sent, but for those that the peer
has had since: it tells, whatever the key, unless it has lost its own state.
Messages that waited in FILE for a reader here are shown, perhaps again.
restore says how many there are; --drop-messages restores without them."""
STATE_TEXT: Final = """\
What to do with all that the node keeps (keys, queues, where each session
stands, peers that were paired), other than to copy it: see backup and restore."""
SET_ASIDE_TEXT: Final = """\
Move the node's state (keys, queues, where each session stands, peers that were
paired) to a folder beside it, with the time in its name: the node then begins
with new keys, and agrees on them with the peers in its configuration by itself;
one that has confirmed this node asks for a person first (there: bt-selfsecure
establish NODE --without-continuity). Whoever was paired has to pair again, and
forgets this node first: pair forget NODE. Stop the node first. Nothing is
destroyed, damaged files neither: restore FOLDER puts them back. The folder
holds keys: delete it when all is well."""
OPEN: Final = """\
Whoever has that disk, or uses this computer, can read {path}:
its file system keeps no permissions, as FAT on a USB stick."""
LOST: Final = """\
What the node kept last is not in it, messages that waited perhaps, and keys:
its log was lost or damaged while it was down. The card may be failing: see
dmesg."""
RESTORED: Final = """\
Restored. Its keys may be old: the peers resynchronise, or refuse them and agree
on new ones. One that is confirmed, here or there, waits for a person: see
bt-selfsecure status. If somebody else may have had this file, or a disk as old
as it: bt-selfsecure establish PEER, for each peer."""

WAITED: Final = """\
{sent} waited in it to be sent: a peer may get again what it has had since.
{read} waited in it to be read here: shown, perhaps again. To have none of
them, before you start the node: bt-selfsecure restore --drop-messages {file}"""
PAIRED: Final = "Peers that were paired are those of the file: {names}. To take one out: bt-selfsecure pair forget NAME"
DROPPED: Final = "Left out: {sent} that waited in it to be sent, and {read} to be read here."


def add_report(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `report`."""
    report = client_parser(
        commands,
        "report",
        "one file to attach to a bug report",
        REPORT_TEXT,
        "example:\n  sudo bt-selfsecure report --redact",
        _report,
    )
    report.add_argument("--redact", action="store_true", help="without device addresses and names")
    report.add_argument("--output", metavar="FILE", help="default bt-selfsecure-report-TIME.txt; - for standard output")


def add_backup(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `backup`."""
    backup = client_parser(
        commands,
        "backup",
        "copy the node's state to a file",
        BACKUP_TEXT,
        "example:\n  sudo bt-selfsecure backup node.backup",
        _backup,
    )
    backup.add_argument("file", type=Path, metavar="FILE")


def add_restore(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `restore`."""
    restore = client_parser(
        commands,
        "restore",
        "put a backup in the place of the node's state",
        RESTORE_TEXT,
        "example:\n"
        "  sudo systemctl stop bt-selfsecure\n"
        "  sudo bt-selfsecure restore node.backup\n"
        "  sudo systemctl start bt-selfsecure",
        _restore,
    )
    restore.add_argument(
        "--drop-messages",
        action="store_true",
        help="without the messages that waited in FILE, to be sent or to be read",
    )
    restore.add_argument("file", type=Path, metavar="FILE")


def add_state(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `state`."""
    state = commands.add_parser(
        "state",
        help="move the node's state aside, to begin with new keys",
        description=STATE_TEXT,
        formatter_class=RawDescriptionHelpFormatter,
    )
    client_parser(
        state.add_subparsers(title="commands", metavar="COMMAND", required=True),
        "set-aside",
        "move it to a folder that `restore` takes",
        SET_ASIDE_TEXT,
        "example:\n"
        "  sudo systemctl stop bt-selfsecure\n"
        "  sudo bt-selfsecure state set-aside\n"
        "  sudo systemctl start bt-selfsecure",
        _set_aside,
    )


def add_metrics(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `metrics`."""
    client_parser(
        commands,
        "metrics",
        "figures of the running node, for Prometheus",
        "Print the node's figures in Prometheus's text format: rounds, retransmissions,\n"
        "losses, secret bits, signal strength, latency of the disk. Where node_exporter\n"
        "is to collect them: [node] metrics_file.",
        "example:\n  bt-selfsecure metrics | grep retransmissions",
        _metrics,
    )


def add_log_level(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `log-level`."""
    level = client_parser(
        commands,
        "log-level",
        "log more or less, at once",
        "Say what the running node logs, or change it until it ends; for longer there is\n[node] log_level.",
        "example:\n  bt-selfsecure log-level debug\n  journalctl -f -u bt-selfsecure BTSS_PEER=bob",
        _log_level,
    )
    level.add_argument("level", nargs="?", choices=LOG_LEVELS, help=", ".join(LOG_LEVELS), metavar="LEVEL")


def _report(args: Namespace) -> int:
    from bt_selfsecure.node.report import redactor, sections, text_of

    path, when = find_path(args.config), time.strftime("%Y-%m-%d %H:%M:%S %z")
    parts = [REPORT_HEAD.format(when=when, redacted=REDACTED if args.redact else NOT_REDACTED)]
    output = Path(args.output or f"bt-selfsecure-report-{time.strftime('%Y%m%d-%H%M%S')}.txt")
    with nullcontext(sys.stdout) if args.output == "-" else _new(output) as file:
        for heading, make in sections(path, node_client(args, lenient=True)):
            with progress(partial(str, f"reading: {heading}")):
                parts.append(f"== {heading}\n\n{text_of(make)}\n")
        text = "\n".join(parts)
        file.write(redactor(path)(text) if args.redact else text)
    if args.output != "-":
        print(f"{output}: look through it, then attach it to your report.", file=sys.stderr)
    return 0


@contextmanager
def _new(path: Path) -> Iterator[TextIO]:
    """A new file for its owner alone, which vanishes after an exception. UsageError before anything is yielded."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"can't write {path} ({error.strerror}): name another file with --output") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            yield file
    except BaseException:
        path.unlink()
        raise


def _state_directory(args: Namespace) -> Path:
    path = find_path(args.config)
    if path == Path(DEFAULT_PATH) and not path.exists():
        return STATE_DIRECTORY
    return read(path).config.node.state_directory


def _backup(args: Namespace) -> int:
    from bt_selfsecure.node.state import backup, has_lost_log

    directory = _state_directory(args)
    has_lost = has_lost_log(directory)
    size = backup(directory, args.file)
    print(f"{args.file}: {size:,} bytes. It holds the node's keys: keep it as you keep a key.", file=sys.stderr)
    if has_lost:
        print(LOST, file=sys.stderr)
    _warn_if_open(args.file)
    return 0


def _restore(args: Namespace) -> int:
    from bt_selfsecure.node.set_aside import FILE
    from bt_selfsecure.node.state import restore

    directory = _state_directory(args)
    old, waiting, paired, has_lost_log = restore(args.file, directory, drop_messages=args.drop_messages)
    print(RESTORED, file=sys.stderr)
    if has_lost_log:
        print(LOST, file=sys.stderr)
    if paired:
        print("\n".join(wrapped(PAIRED.format(names=", ".join(paired)), columns())), file=sys.stderr)
    if any(waiting):
        sent, read = (counted(number, "message") for number in waiting)
        text = DROPPED if args.drop_messages else WAITED
        print(text.format(sent=sent, read=read, file=args.file), file=sys.stderr)
    _warn_if_open(directory / FILE)
    if old:
        print(f"The state that was there before: {old}", file=sys.stderr)
        print("It holds keys: delete it when all is well.", file=sys.stderr)
    return 0


def _warn_if_open(path: Path) -> None:
    from bt_selfsecure.node.state import is_open_to_others

    if is_open_to_others(path):
        print(OPEN.format(path=path), file=sys.stderr)


def _set_aside(args: Namespace) -> int:
    from bt_selfsecure.node.state import set_aside

    folder = set_aside(_state_directory(args))
    if folder:
        print(f"{folder}: all that the node kept. bt-selfsecure restore {folder} puts it back.", file=sys.stderr)
        print("The node begins with new keys when it is started. The folder holds the old ones.", file=sys.stderr)
    else:
        print("Nothing was left of the state. The node begins with new keys when it is started.", file=sys.stderr)
    return 0


def _metrics(args: Namespace) -> int:
    print(node_client(args).metrics(), end="")
    return 0


def _log_level(args: Namespace) -> int:
    print(node_client(args).log_level(args.level))
    return 0
