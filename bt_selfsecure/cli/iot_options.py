"""The options that the commands of IoT-Crypto share."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Coroutine, Iterator

    from bt_selfsecure.iot.folder import IdentityFolder

NEEDED: Final = "IoT-Crypto needs {}: install it with pip install 'bt-selfsecure[{}]'"


def add_state(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="whose folder (default: /var/lib/bt-selfsecure-iot for root, ~/.local/state/bt-selfsecure/iot)",
    )


def state_of(args: Namespace) -> Path:
    """Return the folder of who this is."""
    if args.state is not None:
        return Path(args.state)
    if not os.geteuid():
        return Path("/var/lib/bt-selfsecure-iot")
    return Path.home() / ".local/state/bt-selfsecure/iot"


@contextmanager
def needing_extra(extra: str = "iot") -> Iterator[None]:
    """Turn a library that is missing into a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bt_selfsecure"):
            raise
        raise UsageError(NEEDED.format(error.name, extra)) from None


def folder_of(args: Namespace) -> IdentityFolder:
    with needing_extra():
        from bt_selfsecure.iot.folder import IdentityFolder
    return IdentityFolder(state_of(args))


def run_until_signal(work: Coroutine[Any, Any, None]) -> int:
    """Run until SIGINT or SIGTERM, and let it end. Raises `UsageError` for what a person must mend first."""
    from bt_selfsecure.bearers.base import BearerError

    async def until() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    fault: BaseException | None = None
    try:
        asyncio.run(until())
    except (BearerError, UsageError) as error:
        fault = error
    except BaseExceptionGroup as group:
        fault = group.split((BearerError, UsageError))[0]
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        if fault is None:
            raise
    if fault is not None:
        raise UsageError(str(fault))
    return 0
