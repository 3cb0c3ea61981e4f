"""A study's batches on a Dask cluster that somebody else runs: its workers and scheduler may come and go."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError, UsageError
from bt_selfsecure.sweep.study_pieces import ASK_VERSIONS, StudyPiece, StudyTotals, accepted, task, versions

IN_FLIGHT: Final = 64
CONNECT_S: Final = 10
SILENCE_S: Final = 2.0
"""Silence after which we look who is still there; and how long between two looks for newcomers."""
MUTE_S: Final = 3.0
"""A worker whose heart did not beat for so long does not count as there; most beat each half second."""
HUNG_S: Final = 7.0
"""One among others whose heart last beat so long before theirs hangs; in a cluster of hundreds they beat each 5 s."""
ANSWER_S: Final = 4.0
"""For a worker to hand over what it made, or to say what it has."""
CLOSE_S: Final = 0.3
LONGEST_REASON: Final = 200
MOST_PORT: Final = 65535

Tell = Callable[[str], None]


class _GoneError(BtSelfSecureError):
    """The scheduler is."""


def on_cluster(batches: Iterator[list[StudyPiece]], scheduler: str, tell: Tell) -> Generator[list[StudyTotals]]:
    """Simulate all `batches`; outcomes come in any order.

    A piece that other versions than ours made is refused, and its worker gets no more. Who goes is told, and the study
    waits until somebody is there again. Raises `UsageError` if none can be used at all.
    """
    try:
        import distributed
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: install it with pip install 'bt-selfsecure[dask]'") from error
    if why := _no_address(scheduler):
        raise _unusable(scheduler, why)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what matters is said by us, in a sentence
    try:
        cluster = _Cluster(batches, _connected(distributed, scheduler, CONNECT_S + ANSWER_S), scheduler, tell)
    except Exception as error:
        lacks_ucx = scheduler.startswith("ucx:") and isinstance(error, TypeError | ImportError | Warning)
        why = "ucx takes the package distributed-ucxx, which is not installed" if lacks_ucx else _reason(error)
        raise _unusable(scheduler, why) from error
    while True:
        try:
            yield from cluster.outcomes()
            return
        except _GoneError:
            tell(f"the scheduler at {scheduler} is gone: the study waits for it, and goes on when it is back")
        cluster.client = _waited_for(distributed, scheduler)
        tell(f"the scheduler at {scheduler} is back: the study goes on")


def _no_address(scheduler: str) -> str:
    """Return why nobody can be there, so that nobody is waited for; "" where somebody may be."""
    scheme, _, place = scheduler.rpartition("://")
    if scheme == "inproc":
        return "inproc is within one process"
    named = re.fullmatch(r"(.*):([^]:]*)", place)
    if named and not named[1]:
        return "it names no host"
    if named and not (re.fullmatch(r"0*[1-9]\d{,4}", named[2], re.ASCII) and int(named[2][-5:]) <= MOST_PORT):
        return f"a port is a number from 1 to {MOST_PORT}"
    return ""


def _unusable(scheduler: str, why: str) -> UsageError:
    return UsageError(
        f"no Dask scheduler can be used at {scheduler or repr('')} ({why}): start `dask scheduler` there, and give the "
        "address that it shows"
    )


def _connected(distributed: Any, scheduler: str, wait_s: float | None = None) -> Any:
    """Return a client. It is made in a thread, so that Ctrl-C ends our waiting at once: the library would wait to its
    end. Its own timeout does not count for a scheduler whose port is open and that says nothing: `wait_s` does.

    One that can't be made is closed here, too: the library leaves it half open after most errors, and waits for it at
    the end of the process, in vain, and with a traceback.
    """
    made: SimpleQueue[Any] = SimpleQueue()

    def connect() -> None:
        client = distributed.Client.__new__(distributed.Client)
        try:
            distributed.Client.__init__(client, scheduler, timeout=CONNECT_S, set_as_default=False)
            made.put(client)
        except Exception as error:
            with suppress(Exception):
                client.close(timeout=CONNECT_S)
            made.put(error)

    Thread(target=connect, daemon=True).start()
    try:
        client = made.get(timeout=wait_s)
    except Empty:
        raise _GoneError("it takes the connection and does not answer") from None
    if isinstance(client, Exception):
        raise client
    return client


def _waited_for(distributed: Any, scheduler: str) -> Any:
    while True:
        with suppress(Exception):  # of whatever kind: it answered before, so it may again
            return _connected(distributed, scheduler)


class _Cluster:
    def __init__(self, batches: Iterator[list[StudyPiece]], client: Any, scheduler: str, tell: Tell) -> None:
        self.client = client
        self._batches, self._scheduler, self._tell = batches, scheduler, tell
        self._again: deque[list[StudyPiece]] = deque()
        self._going: dict[Any, list[StudyPiece]] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._is_alone = False
        self._unfit: dict[str, str] = {}
        """Workers that have other versions, and which."""
        self._fit: list[str] | None = None
        """Those that may be asked; None is all, while no other was found."""
        self._looked = self._heard = monotonic()
        """When we looked for workers, and when the heart of one had beaten since the look before."""
        self._beats: dict[str, float] = {}
        """When it did, of each worker, by the scheduler's clock."""

    def outcomes(self) -> Iterator[list[StudyTotals]]:
        """Yield each batch's, in whatever order. `_GoneError` with the scheduler; what it had is then done again."""
        try:
            while self._fill():
                try:
                    future = self._ended.get(timeout=SILENCE_S)
                except Empty:
                    self._look()
                    continue
                if self._fit is not None and monotonic() - self._looked > SILENCE_S:
                    self._look()
                if (batch := self._going.pop(future, None)) is not None:
                    yield from self._ended_with(future, batch)
        finally:
            self._give_up()

    def _fill(self) -> bool:
        """Return whether anything is still to be waited for."""
        while len(self._going) < IN_FLIGHT:
            batch = self._again.popleft() if self._again else next(self._batches, None)
            if batch is None:
                break
            try:
                future = self.client.submit(eval, task(batch), pure=False, workers=self._fit)
            except Exception as error:  # it has other ones, for every way in which a connection ends
                self._again.append(batch)
                raise _GoneError from error
            self._going[future] = batch
            future.add_done_callback(self._ended.put)
        return bool(self._going)

    def _ended_with(self, future: Any, batch: list[StudyPiece]) -> Iterator[list[StudyTotals]]:
        from distributed.scheduler import KilledWorker

        if future.status in ("cancelled", "lost"):
            self._again.append(batch)
            if self.client.status != "running":
                raise _GoneError
            return
        outcomes, answer = None, ""
        try:
            error = future.exception(timeout=CONNECT_S)
            if error is None:
                answer = future.result(timeout=ANSWER_S)
        except TimeoutError:  # whoever made it hangs, or the scheduler does, which a look shows
            self._again.append(batch)
            self._look()
            self._take_back()
            return
        except Exception as failed:
            self._again.append(batch)
            raise _GoneError from failed
        if error is None:
            try:
                outcomes = accepted(answer, batch)
            except UnreadableError as wrong:
                error = wrong
        if isinstance(error, KilledWorker):
            raise UsageError(f"workers were killed again and again ({_reason(error)}): look after them")
        if outcomes is None:
            self._again.append(batch)
            self._find_fit(error)
            return
        if self._is_alone:
            self._is_alone = False
            self._tell("a worker is there again: the study goes on")
        yield outcomes

    def _look(self) -> None:
        """After a silence: is anybody there? And now and then where not everybody is asked: is there anybody new?"""
        if self.client.status != "running":
            raise _GoneError
        try:
            told = self.client.sync(self.client.scheduler.identity, callback_timeout=CONNECT_S / 2)
        except Exception as error:
            raise _GoneError from error
        beats = {worker: each["last_seen"] for worker, each in told["workers"].items()}
        self._looked = monotonic()
        if any(beat != self._beats.get(worker) for worker, beat in beats.items() if worker not in self._unfit):
            self._heard = self._looked
        self._beats = beats
        hung = {worker for worker, beat in beats.items() if max(beats.values()) - beat > HUNG_S}
        if self._fit is not None and not set(self._fit) & set(beats):
            self._find_fit(None)
            self._take_back()
        elif self._fit is not None and set(beats) - set(self._fit) - set(self._unfit) - hung:
            self._find_fit(None)
        self._leave(hung, set(beats) - hung)
        if not self._is_alone and (not beats or self._looked - self._heard > MUTE_S):
            self._is_alone = True
            what = "answers any more" if beats else "is left"
            self._tell(f"no worker {what} at {self._scheduler}: the study waits, and goes on when one is there")

    def _leave(self, hung: set[str], others: set[str]) -> None:
        """Have the others do what these still have: Dask itself would wait for them for minutes."""
        asked = (hung | others) - set(self._unfit) if self._fit is None else set(self._fit)
        if asked & hung and asked & others:
            self._fit = sorted(asked & others)
            self._take_back()
            self._tell(f"no answer any more from {', '.join(sorted(asked & hung))}: the other workers do what it had")

    def _find_fit(self, error: BaseException | None) -> None:
        """Ask all workers what they have. Raises `UsageError` if there are some, and none has what we have."""
        from distributed.comm import CommClosedError

        try:
            have = self.client.sync(self._asked, callback_timeout=CONNECT_S)
        except Exception as failed:
            raise _GoneError from failed
        mute = [worker for worker, found in have.items() if isinstance(found, TimeoutError | CommClosedError)]
        self._fit = [worker for worker, found in have.items() if found == versions()] or None
        unfit = {
            worker: _described(found) for worker, found in have.items() if found != versions() and worker not in mute
        }
        listed = "; ".join(f"{worker} has {found}" for worker, found in unfit.items() if worker not in self._unfit)
        ours = _described(versions())
        if have and not unfit and not mute and error is not None:
            raise UsageError(f"a worker failed ({_reason(error)}): look after it")
        if unfit and not self._fit and not mute:
            listed = "; ".join(f"{worker} has {found}" for worker, found in unfit.items())
            raise UsageError(f"no worker has {ours}: {listed}. Give them the same")
        if listed:
            self._tell(f"left out, since this is {ours}: {listed}")
        self._unfit = unfit

    async def _asked(self) -> dict[str, Any]:
        """Return what each worker has, or the error that it gave. One that hangs does not keep us from the others."""
        workers = list(await self.client.scheduler.ncores())

        async def ask(worker: str) -> Any:
            try:
                async with asyncio.timeout(ANSWER_S):
                    answers = await self.client.run(eval, ASK_VERSIONS, workers=[worker], on_error="return")
                return answers[worker]
            except Exception as error:
                return error

        return dict(zip(workers, await asyncio.gather(*map(ask, workers)), strict=True))

    def _take_back(self) -> None:
        """Have all batches done again, by those that may be asked now."""
        self._again.extend(self._going.values())
        self.client.cancel(list(self._going))
        self._going.clear()

    def _give_up(self) -> None:
        self._again.extend(self._going.values())
        self._going.clear()
        with suppress(Exception):  # a scheduler that is gone says no goodbye
            self.client.close(timeout=CLOSE_S)


def _described(found: Any) -> str:
    if isinstance(found, dict):
        return ", ".join(f"{name} {version}" for name, version in found.items())
    if isinstance(found, ImportError):
        return f"no {found.name or 'bt_selfsecure'}"
    return _reason(found)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
