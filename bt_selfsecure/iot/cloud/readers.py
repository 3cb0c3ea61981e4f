"""Connections for reading, each with a thread of its own, beside the one that writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from bt_selfsecure.iot.cloud.sql import CloudDatabase, SqlError

Given = ParamSpec("Given")
Result = TypeVar("Result")
THREADS: Final = 4
PROBE_S: Final = 2.0
"""For the database to answer whoever asks whether it is there."""


class Readers:
    """Lends a connection to what is done in a thread; one that fails is replaced."""

    def __init__(self, connect: Callable[[], CloudDatabase], threads: int = THREADS) -> None:
        """`connect` raises `SqlError`."""
        self._connect: Final = connect
        self._executor: Final = ThreadPoolExecutor(threads, "reader")
        self._own: Final = threading.local()
        self._all: Final[set[CloudDatabase]] = set()
        self._probe: asyncio.Future[None] | None = None

    async def do(
        self, what: Callable[Concatenate[CloudDatabase, Given], Result], *given: Given.args, **named: Given.kwargs
    ) -> Result:
        """Return what it returns, given a connection first. Raises what it raises, and `SqlError`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: self._done(what, *given, **named)
        )

    async def trouble(self) -> str:
        """Return why a new connection could not read now; empty where it could. All who ask at once share one look, so
        that they take no threads from others."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().run_in_executor(self._executor, self._look)
            self._probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(PROBE_S):
                await asyncio.shield(self._probe)
        except TimeoutError:
            return f"the database has not answered for {PROBE_S:g} s"
        except SqlError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Wait for what was begun."""
        self._executor.shutdown()
        for base in self._all:
            base.close()

    def _look(self) -> None:
        base = self._connect()
        try:
            base.execute("SELECT last FROM counter")
        finally:
            base.close()

    def _done(self, what: Callable[..., Result], *given: Any, **named: Any) -> Result:
        base: CloudDatabase | None = getattr(self._own, "base", None)
        if base is None:
            base = self._own.base = self._connect()
            self._all.add(base)
        try:
            return what(base, *given, **named)
        except SqlError:
            self._own.base = None
            self._all.discard(base)
            base.close()
            raise
