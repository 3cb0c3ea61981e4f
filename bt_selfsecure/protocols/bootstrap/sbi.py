"""SBI, the new node: it shows flight 1, takes flight 4, and proves by flight 5 that it has the PSK.

Until flight 8 has come it keeps the key that it had, and repeats flight 5: so whatever is lost, repeated or late, the
key in force at the SBS is one of the two that are here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from hmac import compare_digest
from typing import Final

from bt_selfsecure.protocols.bootstrap import keys, limits
from bt_selfsecure.protocols.bootstrap.events import KeyTaken, NodeJoined
from bt_selfsecure.protocols.bootstrap.messages import Flight, Kind, decode
from bt_selfsecure.protocols.bootstrap.records import Installation
from bt_selfsecure.protocols.bootstrap.write_ahead import KeepingEnd
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.frame_table import FrameRow, FrameTable, dispatch, replayed
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class SbiState(MachineEnum):
    READY = enum.auto()
    """It has one key, and nothing is under way."""
    SHOWING = enum.auto()
    """Flight 1 is shown."""
    PROVING = enum.auto()
    """Flight 5 is repeated: it has two keys."""
    PROVING_SHOWING = enum.auto()
    """Both: a person began anew before flight 8 came."""


class SbiInput(MachineEnum):
    START = enum.auto()
    F4 = enum.auto()
    F8 = enum.auto()


S, I = SbiState, SbiInput
SBI_TABLE: Final[Mapping[tuple[SbiState, SbiInput], SbiState]] = {
    (S.READY, I.START): S.SHOWING,
    (S.SHOWING, I.START): S.SHOWING,
    (S.PROVING, I.START): S.PROVING_SHOWING,
    (S.PROVING_SHOWING, I.START): S.PROVING_SHOWING,
    (S.SHOWING, I.F4): S.PROVING,
    (S.PROVING_SHOWING, I.F4): S.PROVING,
    (S.PROVING, I.F8): S.READY,
    (S.PROVING_SHOWING, I.F8): S.READY,
}
SBI_FRAMES: Final[FrameTable[Kind, SbiState]] = {
    Kind.F4: FrameRow({S.SHOWING, S.PROVING_SHOWING}, "_receive_f4", replayed("a flight 4, and no flight 1 is shown")),
    Kind.F8: FrameRow({S.PROVING, S.PROVING_SHOWING}, "_receive_f8", replayed("a flight 8 that is not waited for")),
}


def state_of(record: Installation) -> SbiState:
    """Return the state that a record is of."""
    if record.next_key:
        return S.PROVING_SHOWING if record.flight1 else S.PROVING
    return S.SHOWING if record.flight1 else S.READY


class Sbi(KeepingEnd[Installation]):
    """Is one node's end. Drive it by the verbs of `Endpoint`, `start` and `persisted`."""

    def __init__(self, record: Installation, context: EndpointContext) -> None:
        super().__init__({record.node_id: record}, context)
        self._node_id: Final = record.node_id
        self._written: Installation = record
        self._begin(record)

    def _begin(self, record: Installation) -> None:
        self._record = record
        self._machine = Machine(self._context.name, "sbi", SBI_TABLE, state_of(record), self._context.tracer)
        self._sent = 0
        self._deadline: float | None = 0.0 if record.next_key else None

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> SbiState:
        return self._machine.state

    @property
    def record(self) -> Installation:
        """Return what is to be kept, written or not."""
        return self._record

    def start(self, now: float, *, anew: bool = False) -> None:
        """Show flight 1: the one that is shown already, or another with `anew`.

        Where flight 8 is still waited for nobody here can know which of two keys the SBS has in force. Another flight 1
        is then under the other key than the one before it, so that of two the SBS knows one.
        """
        record = self._record
        if record.flight1 and not anew:
            self._store.send(record.flight1)
            return
        is_of_next = bool(record.next_key and record.flight1 and not record.is_of_next)
        flight1 = keys.flight_1(
            record.next_key if is_of_next else record.key, record.node_id, self._context.random(limits.KEY_BYTES)
        )
        self._machine.on(I.START, now)
        self._put(replace(record, flight1=flight1, is_of_next=is_of_next))
        self._store.send(flight1)

    def get_timer(self) -> float | None:
        return self._deadline

    def receive_frame(self, data: bytes, now: float) -> None:
        flight = self._events.decode(data)
        if flight is not None:
            dispatch(SBI_FRAMES.get(flight.kind), self, flight, now, self._events)

    def handle_timer(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline:
            self._repeat(now)

    def persisted(self, token: int) -> None:
        """Release the flights that wait for the record with this token."""
        super().persisted(token)
        self._written = self._record

    def refused(self) -> None:
        """Take back what could not be written, and be as before it."""
        super().refused()
        self._begin(self._written)

    # --- the flights --------------------------------------------------------------------------------------------------

    def _receive_f4(self, flight: Flight, now: float) -> None:
        record = self._record
        key = record.next_key if record.is_of_next else record.key
        rn_i = decode(record.flight1).rn_i
        for controller_id in record.controllers:
            names = keys.NamesOfRun(record.node_id, controller_id, flight.tid)
            plain = keys.unseal(keys.wrapping_key(key, rn_i, names), flight, record.flight1)
            if plain is not None and plain[: limits.ID_BYTES] == controller_id:
                self._take(flight, keys.derive(key, rn_i, plain[limits.ID_BYTES :], names).psk, controller_id, now)
                return
        self._events.reject(Rejection.UNAUTHENTIC, "flight 4")

    def _take(self, flight: Flight, psk: bytes, controller_id: bytes, now: float) -> None:
        """The SBS has made this PSK of a flight 1 under the key that is in force there, and forgotten every other PSK
        that was not proved: so which of two keys it has is known now."""
        record = self._record
        if record.is_of_next:
            record = replace(record, key=record.next_key, joined=record.next_controller)
            self._tell_joined(record)
        self._machine.on(I.F4, now)
        flight5 = keys.flight_5(psk, record.flight1, flight.data)
        self._put(
            replace(
                record,
                flight1=b"",
                is_of_next=False,
                next_key=psk,
                next_controller=controller_id,
                flight5=flight5,
            )
        )
        self._events.put(KeyTaken(self._node_id, controller_id))
        self._sent = 0
        self._repeat(now)

    def _receive_f8(self, flight: Flight, now: float) -> None:
        record = self._record
        if not compare_digest(flight.data, keys.flight_8(record.next_key, record.flight5)):
            self._events.reject(Rejection.UNAUTHENTIC, "flight 8")
            return
        self._machine.on(I.F8, now)
        self._deadline = None
        self._put(Installation(record.node_id, record.next_key, record.controllers, record.next_controller))
        self._tell_joined(self._record)

    def _tell_joined(self, record: Installation) -> None:
        if self._context.key_log is not None:
            self._context.key_log(key_log_line("PSK", record.node_id, record.key))
        self._events.put(NodeJoined(record.node_id, record.joined, record.key))

    def _put(self, record: Installation) -> None:
        self._record = record
        self._store.put(record)

    def _repeat(self, now: float) -> None:
        self._store.send(self._record.flight5)
        self._deadline = now + doubled(limits.FIRST_RETRY_S, limits.LAST_RETRY_S, self._sent)
        self._sent += 1
