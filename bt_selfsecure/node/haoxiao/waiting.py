"""Those who wait: for a message to be kept or delivered, for a key, and for a generation of keys for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Waiters:
    """Holds who waits, each by a future: a caller that is cancelled waits no more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: dict[int, asyncio.Future[None]] = {}
        self._told: dict[int, Callable[[], None]] = {}
        self._outcomes: dict[asyncio.Future[dict[str, Any]], bool] = {}
        """With whether who waits allows a key without continuity."""
        self._generations: list[asyncio.Future[None]] = []

    @contextmanager
    def for_message(self, number: int) -> Iterator[asyncio.Future[None]]:
        message = self._messages[number] = self._loop.create_future()
        try:
            yield message
        finally:
            del self._messages[number]

    def when_over(self, number: int, done: Callable[[], None]) -> None:
        """Call `done` when the peer has the message of this number, or never gets it."""
        self._told[number] = done

    @contextmanager
    def for_key(self, *, without_continuity: bool) -> Iterator[asyncio.Future[dict[str, Any]]]:
        outcome: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._outcomes[outcome] = without_continuity
        try:
            yield outcome
        finally:
            del self._outcomes[outcome]

    @contextmanager
    def for_generation(self) -> Iterator[asyncio.Future[None]]:
        generation: asyncio.Future[None] = self._loop.create_future()
        self._generations.append(generation)
        try:
            yield generation
        finally:
            self._generations.remove(generation)

    @property
    def is_key_awaited(self) -> bool:
        return any(not outcome.done() for outcome in self._outcomes)

    @property
    def is_any_key_allowed(self) -> bool:
        """Return whether one of those who wait for a key allows one without continuity."""
        return any(allowed and not outcome.done() for outcome, allowed in self._outcomes.items())

    def end_message(self, number: int, error: Exception | None = None) -> None:
        if done := self._told.pop(number, None):
            done()
        message = self._messages.get(number)
        if message is None or message.done():
            return
        if error:
            message.set_exception(error)
        else:
            message.set_result(None)

    def end_messages(self, error: Exception) -> None:
        """Release those who wait for a message: nobody will learn whether it arrived."""
        for number in (*self._messages, *self._told):
            self.end_message(number, error)

    def end_keys(self, told: dict[str, Any]) -> None:
        for outcome in self._outcomes:
            if not outcome.done():
                outcome.set_result(told)

    def end_generations(self, error: Exception | None = None) -> None:
        """Release those who wait for the next generation, which is there, or will not come."""
        for generation in self._generations:
            if generation.done():
                continue
            if error:
                generation.set_exception(error)
            else:
                generation.set_result(None)
