"""The virtual air: a sweep's bearer without radios, in no time. Losses come from a model of `air/`.

Every listener hears or misses the one packet that is sent, as with advertisements. There is no queue, and no distance
in the RSSI but the mean of a model that has distances.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from bt_selfsecure.air.models import parse_model
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.memory import BroadcastAir
from bt_selfsecure.sweep.agent import Counters, no_counters
from bt_selfsecure.sweep.plan import AIR


class RehearsalMedium:
    """Joins the agents of one rehearsal; it is the `AgentEnvironment` of each, by `at`. `roles` gives the model's
    name of each address, as in {"BA:27:EB:00:00:02": "bob"}; whoever orders a burst sets it."""

    def __init__(self, seed: int) -> None:
        self.roles: Mapping[str, str] = {}
        self._random = Random(seed)
        self._airs: dict[str, BroadcastAir] = {}
        self._now = 0.0

    def at(self, address: str) -> RehearsalMedia:
        return RehearsalMedia(self, address)

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """The air's time goes on; nobody waits."""
        self._now += seconds
        await asyncio.sleep(0)

    def air(self, bearer: str) -> BroadcastAir:
        """Return a loss process for each spec, whose model keeps its state from run to run."""
        if bearer not in self._airs:
            reception = LossProcess(parse_model(bearer.removeprefix(AIR)), self._random)
            self._airs[bearer] = BroadcastAir(partial(self._reach, reception))
        return self._airs[bearer]

    def _reach(self, reception: LossProcess, sender: str, listening: Sequence[str]) -> Mapping[str, int | None]:
        """Return the names for the model: whoever sends is its Alice."""
        addresses = {role: address for address, role in self.roles.items() if address in listening}
        heard = reception.heard("alice", tuple(addresses), self._now)
        return {addresses[role]: reception.rssi("alice", role) for role in heard}


class RehearsalMedia:
    """Holds what one agent has of it."""

    def __init__(self, medium: RehearsalMedium, address: str) -> None:
        self._medium, self._address = medium, address
        self.now, self.sleep = medium.now, medium.sleep

    def open(self, bearer: str) -> Bearer:
        return self._medium.air(bearer).bearer(self._address)

    def counting(self, bearer: str, receivers: dict[str, str]) -> contextlib.AbstractAsyncContextManager[Counters]:
        return no_counters()
