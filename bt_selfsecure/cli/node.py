"""`bt-selfsecure node`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.config_file import find_path, load

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

log = logging.getLogger(__name__)

LEVELS: Final = ("debug", "info", "warning", "error")
STOP_S: Final = 5.0
"""From the signal to the end; links are told good-bye, the journal is closed."""
DESCRIPTION = """\
Run the node: find the configured peers, agree on keys with them, keep secure
sessions open, and serve local programs on a Unix socket. It logs to standard
error and ends at SIGTERM or Ctrl-C; nothing that was accepted is lost, also if
it is killed. systemd runs it as bt-selfsecure.service."""
EPILOG = """\
example:
  bt-selfsecure config show > node.toml     then name the peers at its end
  sudo bt-selfsecure node --config node.toml
  bt-selfsecure status --config node.toml   in another terminal
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """`node` and its options."""
    parser = subparsers.add_parser(
        "node",
        help="run the daemon on this machine",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration, if it is not the default one: see `config --help`",
    )
    parser.add_argument("--log-level", choices=LEVELS, help="instead of the configured one")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Run until a signal comes. UsageError for a configuration or a machine that can't be used."""
    config = load(find_path(args.config)).config
    _log_to_stderr(args.log_level or config.node.log_level)
    try:
        return asyncio.run(_until_signal(config))
    except UsageError:
        raise
    except BtSelfSecureError as error:
        log.error("%s", error)
        return 1


def _log_to_stderr(level: str) -> None:
    """With the time, unless the journal adds it."""
    clock = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level=level.upper(), format=clock + "%(levelname)s %(name)s: %(message)s")


async def _until_signal(config: Config) -> int:
    try:
        from bt_selfsecure.node.service import run_node
    except ImportError as error:
        raise UsageError(f"the node needs {error.name}: install it with pip install 'bt-selfsecure[node]'") from error

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node, signalled = asyncio.ensure_future(run_node(config)), asyncio.ensure_future(stop.wait())
    await asyncio.wait({node, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not node.done():
        node.cancel()
        await asyncio.wait({node}, timeout=STOP_S)
    if not node.done():
        log.error("the node did not end within %g s and is cut off; its journal is made for that", STOP_S)
        os._exit(1)
    return 0 if node.cancelled() else node.result()
