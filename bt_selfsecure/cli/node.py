"""`bt-selfsecure node`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.config import LOG_LEVELS, Config
from bt_selfsecure.node.config_file import load
from bt_selfsecure.node.peer_log import JournalHandler, stderr_is_the_journal
from bt_selfsecure.node.where import find_path

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

log = logging.getLogger(__name__)

FORMAT: Final = "%(name)s: %(message)s"
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
    """Add `node` and its options."""
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
    parser.add_argument("--log-level", choices=LOG_LEVELS, help="instead of the configured one")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Run until a signal comes. UsageError for a configuration or a machine that can't be used."""
    config = load(find_path(args.config)).config
    begin_log(args.log_level or config.node.log_level)
    try:
        return asyncio.run(_until_signal(config))
    except UsageError:
        raise
    except BtSelfSecureError as error:
        log.error("%s", error)
        return 1


def begin_log(level: str) -> None:
    """Log to the journal with its fields, where that reads standard error; else to standard error, with the time."""
    if stderr_is_the_journal():
        with contextlib.suppress(OSError):
            logging.basicConfig(level=level.upper(), format=FORMAT, handlers=[JournalHandler()])
    logging.basicConfig(level=level.upper(), format=f"%(asctime)s %(levelname)s {FORMAT}")


async def _until_signal(config: Config) -> int:
    # aiohttp reads all CA certificates when it is imported, for a client that the node never is: a fifth of its start.
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    try:
        from bt_selfsecure.node.daemon import run_node
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
