"""A sweep's machine with nodes that answer, a real file, and a person who presses keys; no clock, no radio."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from random import Random

from bt_selfsecure.sweep.events import (
    Answered,
    End,
    Finished,
    Give,
    Placed,
    Prompt,
    Record,
    RunStored,
    Tell,
    Withdraw,
    Withdrawn,
)
from bt_selfsecure.sweep.machine import Sweep
from bt_selfsecure.sweep.orders import (
    Answer,
    Listen,
    Listening,
    ListenReport,
    OrderRefused,
    PacketsSent,
    Report,
    SendPackets,
    pack,
)
from bt_selfsecure.sweep.plan import Plan, RolesTable, SweepTable
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.store import Store

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class CrashedError(Exception):
    """The program that drove the sweep is gone."""


def plan_of(**changes: object) -> Plan:
    """Two places, two kinds of run, two repeats: eight runs."""
    settings = {"distances_m": (0.5, 3.0), "packets": (10, 20), "repeats": 2, "bearers": ("le_advert",)} | changes
    rotate = bool(settings.pop("rotate", False))
    return Plan(RolesTable("alice", "bob", ("eve",), rotate=rotate), SweepTable(**{"min_repeats": 1, **settings}))  # type: ignore[arg-type]


class SweepWorld:
    """One program's life, from its start to `crash_at` steps later. `losses` by node, `faults` is how often a node
    refuses an order or keeps silent."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        seed: int = 1,
        *,
        losses: dict[str, float] | None = None,
        faults: float = 0.0,
        crash_at: int | None = None,
    ) -> None:
        self.plan, self.random = plan, Random(seed)
        self.book = Book(store, plan)
        store.begin({})
        self.losses, self.faults, self.crash_at = losses or {}, faults, crash_at
        self.now = 0.0
        self.steps = 0
        self.prompts: list[Prompt] = []
        self.told: list[str] = []
        self.orders: list[Give] = []
        self._answers: deque[Answered] = deque()
        addresses = dict.fromkeys(plan.nodes, "00:00:00:00:00:01")
        self.sweep = Sweep(plan, self.book.done(), addresses, lambda: self.random.getrandbits(32), self.now)

    def step(self) -> bool:
        """One thing happens; False when nothing is left."""
        if self.steps == self.crash_at:
            raise CrashedError
        self.steps += 1
        if effect := self.sweep.next_effect():
            self._do(effect)
        elif self._answers:
            self.sweep.handle(self._answers.popleft(), self.now)
        elif (timer := self.sweep.get_timer()) is not None:
            self.now = max(self.now, timer)
            self.sweep.handle_timer(self.now)
        elif self.sweep.state is State.OVER:
            return False
        else:
            self.sweep.handle(Placed(self.sweep.place) if self.sweep.place else End(), self.now)
        return True

    def run(self) -> None:
        while self.step():
            pass

    def _do(self, effect: object) -> None:
        match effect:
            case Give(node, order):
                self.orders.append(effect)
                answer = self.answer(node, order)
                if answer and self.random.random() >= self.faults:
                    self._answers.append(Answered(node, answer))
            case Record():
                self.book.write(effect, STARTED, {})
                self.sweep.handle(RunStored(effect.run), self.now)
            case Withdraw(place):
                self.book.withdraw(place, "done again")
                self.sweep.handle(Withdrawn(place), self.now)
            case Prompt():
                self.prompts.append(effect)
            case Tell(text):
                self.told.append(text)
            case Finished():
                pass

    def answer(self, node: str, order: Listen | SendPackets | Report) -> Answer | None:
        if self.random.random() < self.faults:
            return OrderRefused(order.tag, "no time")
        match order:
            case Listen():
                self._packets = order.packets
                return Listening(order.tag)
            case SendPackets():
                return PacketsSent(order.tag, order.packets / 100, {}, {})
            case Report():
                loss = self.losses.get(node, 0.1)
                copies = bytes(self.random.random() >= loss for _ in range(self._packets))
                return ListenReport(order.tag, pack(copies), pack(b"\x7f" * self._packets))


def new_store() -> Store:
    """In memory: SQLite is the same, and a program that is gone leaves what it had committed."""
    return Store(":memory:", create=True)
