"""SBR, the controller: it carries flight 1 to the SBS, and never sees the node's IK."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from hmac import compare_digest
from typing import Any, Final

from bt_selfsecure.protocols.bootstrap import keys, limits
from bt_selfsecure.protocols.bootstrap.config import SbrConfig
from bt_selfsecure.protocols.bootstrap.events import NoAnswer, NodeJoined
from bt_selfsecure.protocols.bootstrap.messages import Flight, Kind
from bt_selfsecure.protocols.bootstrap.records import COUNTER_KEY, Gone, Step, TidReservation, Transaction
from bt_selfsecure.protocols.bootstrap.write_ahead import KeepingEnd
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line

Kept = Mapping[bytes, Transaction | TidReservation]
"""By `key_of_row`."""


class SbrState(MachineEnum):
    """Says how far one transaction is: the steps of its record, and before and after."""

    NEW = enum.auto()
    ASKED = enum.auto()
    ANSWERED = enum.auto()
    CONFIRMED = enum.auto()
    DONE = enum.auto()
    OVER = enum.auto()


class SbrInput(MachineEnum):
    F1 = enum.auto()
    F3 = enum.auto()
    F5 = enum.auto()
    F7 = enum.auto()
    NO_ANSWER = enum.auto()
    DISPLACED = enum.auto()


S, I = SbrState, SbrInput
SBR_TABLE: Final[Mapping[tuple[SbrState, SbrInput], SbrState]] = {
    (S.NEW, I.F1): S.ASKED,
    (S.ASKED, I.F3): S.ANSWERED,
    (S.ANSWERED, I.F5): S.CONFIRMED,
    (S.CONFIRMED, I.F5): S.CONFIRMED,
    (S.CONFIRMED, I.F7): S.DONE,
    (S.DONE, I.F5): S.DONE,
    (S.ASKED, I.NO_ANSWER): S.OVER,
    (S.ASKED, I.DISPLACED): S.OVER,
    (S.ANSWERED, I.DISPLACED): S.OVER,
    (S.CONFIRMED, I.DISPLACED): S.OVER,
    (S.DONE, I.DISPLACED): S.OVER,
}
SBR_FRAMES: Final[FrameTable[Kind, SbrState]] = {
    Kind.F3: FrameRow({S.ASKED}, "_receive_f3", replayed("a flight 3 that is not waited for")),
    Kind.F5: FrameRow({S.ANSWERED, S.CONFIRMED, S.DONE}, "_receive_f5", replayed("a flight 5 that is not waited for")),
    Kind.F7: FrameRow({S.CONFIRMED}, "_receive_f7", replayed("a flight 7 that is not waited for")),
}

REPEATED: Final = (Step.ASKED, Step.CONFIRMED)
"""In these something is asked of the server, until it answers."""


class Sbr(KeepingEnd[Transaction | TidReservation]):
    """Is one controller's end, for all of its nodes. Drive it by the verbs of `Endpoint`, `persisted` and `refused`.

    `kept` is what the driver has written: each `Persist` changes it, before `persisted` is called. Flight 8 goes to
    where the flight 5 of its TID came from.
    """

    def __init__(self, config: SbrConfig, kept: Kept, context: EndpointContext) -> None:
        self.config: Final = config
        super().__init__(kept, context)
        self._up: Final = keys.up_key(config.controller.sk_cs)
        self._down: Final = keys.down_key(config.controller.sk_cs)
        self._next_tid = self._reserved
        self._repeats: Final[dict[bytes, tuple[float, int]]] = {
            one.tid: (0.0, 0) for one in self._transactions() if one.step in REPEATED
        }
        """By TID, when its flight is repeated, and how often it was. One that was answered is found out at its time: so
        it is repeated if the answer could not be written."""

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        return min((deadline for deadline, _ in self._repeats.values()), default=None)

    def receive_frame(self, data: bytes, now: float) -> None:
        flight = self._events.decode(data)
        if flight is None:
            return
        if flight.kind is Kind.F1:
            self._receive_f1(flight, now)
            return
        row, transaction = SBR_FRAMES.get(flight.kind), self._of(flight.tid)
        if row is None or transaction is None:
            self._events.reject(Rejection.NOT_FOR_US, f"{flight.kind.name} of no transaction here")
        elif S[transaction.step.name] not in row.states:
            self._events.reject(row.otherwise.reason, row.otherwise.detail)
        else:
            getattr(self, row.handler)(flight, transaction, now)

    def handle_timer(self, now: float) -> None:
        for tid, (deadline, sent) in list(self._repeats.items()):
            transaction = self._of(tid)
            if transaction is None or transaction.step not in REPEATED:
                del self._repeats[tid]
            elif deadline <= now and sent > self.config.retries:
                self._give_up(transaction, now)
            elif deadline <= now:
                self._ask(transaction, now)

    # --- the flights --------------------------------------------------------------------------------------------------

    def _receive_f1(self, flight: Flight, now: float) -> None:
        known = next((one for one in self._transactions() if one.flight1 == flight.data), None)
        if known is not None:
            if known.step is Step.ASKED:
                self._repeats.pop(known.tid, None)
                self._ask(known, now)
            else:
                self._store.send(known.flight4)
            return
        self._make_room(now)
        transaction = Transaction(
            self._new_tid(),
            flight.node_id,
            flight.data,
            self._context.random(limits.KEY_BYTES),
            int(self.config.clock()),
        )
        self._trace(S.NEW, I.F1, now, transaction)
        self._store.put(transaction)
        self._ask(transaction, now)

    def _receive_f3(self, flight: Flight, transaction: Transaction, now: float) -> None:
        plain = keys.unseal(self._down, flight)
        expected = transaction.ts.to_bytes(limits.TS_BYTES) + transaction.node_id
        if plain is None or plain[: len(expected)] != expected:
            self._events.reject(Rejection.UNAUTHENTIC, "flight 3")
            return
        kw, psk = plain[len(expected) : -limits.KEY_BYTES], plain[-limits.KEY_BYTES :]
        told = self.config.controller.controller_id + transaction.rn_c
        flight4 = keys.seal(kw, Kind.F4, transaction.tid, told, transaction.flight1)
        for other in self._others(transaction):
            if other.step in (Step.ASKED, Step.ANSWERED) and other.tid < transaction.tid:
                self._drop(other, I.DISPLACED, now)
        self._advance(transaction, I.F3, now, flight4=flight4, psk=psk)
        self._store.send(flight4)

    def _receive_f5(self, flight: Flight, transaction: Transaction, now: float) -> None:
        if not compare_digest(flight.data, self._flight5(transaction)):
            self._events.reject(Rejection.UNAUTHENTIC, "flight 5")
        elif transaction.step is Step.DONE:
            self._trace(S.DONE, I.F5, now, transaction)
            self._store.send(keys.flight_8(transaction.psk, flight.data))
        else:
            self._repeats.pop(transaction.tid, None)
            self._ask(self._advance(transaction, I.F5, now), now)

    def _receive_f7(self, flight: Flight, transaction: Transaction, now: float) -> None:
        if keys.unseal(self._down, flight) != transaction.node_id:
            self._events.reject(Rejection.UNAUTHENTIC, "flight 7")
            return
        for other in self._others(transaction):
            if other.tid < transaction.tid:
                self._drop(other, I.DISPLACED, now)
        self._advance(transaction, I.F7, now)
        self._store.send(keys.flight_8(transaction.psk, self._flight5(transaction)))
        if self._context.key_log is not None:
            self._context.key_log(key_log_line("PSK", transaction.node_id, transaction.psk))
        self._events.put(NodeJoined(transaction.node_id, self.config.controller.controller_id, transaction.psk))

    # --- transactions -------------------------------------------------------------------------------------------------

    def _transactions(self) -> list[Transaction]:
        return [one for one in self._store.records() if isinstance(one, Transaction)]

    def _of(self, tid: bytes) -> Transaction | None:
        found = self._store.get(tid)
        return found if isinstance(found, Transaction) else None

    def _others(self, transaction: Transaction) -> list[Transaction]:
        return [one for one in self._transactions() if one.node_id == transaction.node_id and one != transaction]

    @property
    def _reserved(self) -> int:
        found = self._store.get(COUNTER_KEY)
        return found.reserved if isinstance(found, TidReservation) else 1

    def _new_tid(self) -> bytes:
        """TID is in nonces, so none is used twice: whoever starts again goes on behind all that were reserved."""
        if self._next_tid >= self._reserved:
            self._store.put(TidReservation(self._next_tid + limits.TID_BLOCK))
        tid = self._next_tid
        self._next_tid += 1
        return tid.to_bytes(limits.TID_BYTES)

    def _ask(self, transaction: Transaction, now: float) -> None:
        """Send flight 2 or 6, and set the time of its repetition."""
        if transaction.step is Step.ASKED:
            stamp = transaction.ts.to_bytes(limits.TS_BYTES)
            plain = self.config.controller.controller_id + stamp + transaction.rn_c + transaction.flight1
            flight = keys.seal(self._up, Kind.F2, transaction.tid, plain)
        else:
            plain = transaction.node_id + self._flight5(transaction)
            flight = keys.seal(self._up, Kind.F6, transaction.tid, plain)
        self._store.send(flight)
        _, sent = self._repeats.get(transaction.tid, (0.0, 0))
        self._repeats[transaction.tid] = now + doubled(limits.FIRST_RETRY_S, limits.LAST_RETRY_S, sent), sent + 1

    def _give_up(self, transaction: Transaction, now: float) -> None:
        del self._repeats[transaction.tid]
        self._events.put(NoAnswer(transaction.node_id, transaction.step.value))
        if transaction.step is Step.ASKED:
            self._drop(transaction, I.NO_ANSWER, now)

    def _make_room(self, now: float) -> None:
        unfinished = [one for one in self._transactions() if one.step is not Step.DONE]
        if len(unfinished) >= limits.MOST_OPEN:
            self._drop(min(unfinished, key=lambda one: one.tid), I.DISPLACED, now)

    def _advance(self, transaction: Transaction, given: SbrInput, now: float, **changes: Any) -> Transaction:
        following = self._trace(S[transaction.step.name], given, now, transaction)
        advanced = replace(transaction, step=Step[following.name], **changes)
        self._store.put(advanced)
        return advanced

    def _drop(self, transaction: Transaction, given: SbrInput, now: float) -> None:
        self._trace(S[transaction.step.name], given, now, transaction)
        self._repeats.pop(transaction.tid, None)
        self._store.put(Gone(transaction.tid))

    def _trace(self, state: SbrState, given: SbrInput, now: float, transaction: Transaction) -> SbrState:
        machine = Machine(self._context.name, "sbr", SBR_TABLE, state, self._context.tracer)
        machine.on(given, now, "node", transaction.node_id.hex(), "tid", int.from_bytes(transaction.tid))
        return machine.state

    @staticmethod
    def _flight5(transaction: Transaction) -> bytes:
        return keys.flight_5(transaction.psk, transaction.flight1, transaction.flight4)
