"""SBS, the server: it has the key of every node, and makes the next one.

A PSK comes into force, and the key before it is forgotten, when the SBS itself has verified flight 5.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import replace
from hmac import compare_digest
from typing import Any, Final

from bt_selfsecure.protocols.bootstrap import keys, limits
from bt_selfsecure.protocols.bootstrap.config import Controller, SbsConfig
from bt_selfsecure.protocols.bootstrap.events import NodeJoined, NodeRefused, Refusal
from bt_selfsecure.protocols.bootstrap.messages import SIZES, VERSION, Flight, Kind, Profile, decode
from bt_selfsecure.protocols.bootstrap.records import Candidate, NodeRecord
from bt_selfsecure.protocols.bootstrap.write_ahead import KeepingEnd
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.trace import Machine, MachineEnum, key_log_line


class SbsState(MachineEnum):
    """Says what an SBS has of one node."""

    ONE_KEY = enum.auto()
    """IK, or the PSK in force."""
    TWO_KEYS = enum.auto()
    """And a PSK that the node has not proved to have."""


class SbsInput(MachineEnum):
    F2 = enum.auto()
    F6 = enum.auto()


S, I = SbsState, SbsInput
SBS_TABLE: Final[Mapping[tuple[SbsState, SbsInput], SbsState]] = {
    (S.ONE_KEY, I.F2): S.TWO_KEYS,
    (S.TWO_KEYS, I.F2): S.TWO_KEYS,
    (S.TWO_KEYS, I.F6): S.ONE_KEY,
}
SBS_FRAMES: Final[Mapping[Kind, str]] = {Kind.F2: "_receive_f2", Kind.F6: "_receive_f6"}
"""Which method takes which flight, once it is unsealed."""
_F1_BYTES: Final = SIZES[Profile.HARDENED][Kind.F1]


class Sbs(KeepingEnd[NodeRecord]):
    """Is the server's end, for all nodes and controllers of its domains. Drive it by the verbs of `Endpoint`,
    `persisted` and `refused`; what `frames_to_send` gives after `receive_frame` goes to where that datagram came from.

    `kept` is what the driver has written, as it is now: who enrols or revokes a node changes it there.
    """

    def __init__(self, config: SbsConfig, kept: Mapping[bytes, NodeRecord], context: EndpointContext) -> None:
        self.config: Final = config
        super().__init__(kept, context)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        """Do nothing: an SBS answers, and repeats nothing by itself."""

    def receive_frame(self, data: bytes, now: float) -> None:
        flight = self._events.decode(data)
        if flight is None:
            return
        handler = SBS_FRAMES.get(flight.kind)
        if handler is None:
            self._events.reject(Rejection.NOT_FOR_US, flight.kind.name)
            return
        for controller in self.config.controllers.values():
            plain = keys.unseal(keys.up_key(controller.sk_cs), flight)
            if plain is not None:
                take: Callable[[Flight, Controller, bytes, float], None] = getattr(self, handler)
                take(flight, controller, plain, now)
                return
        self._events.reject(Rejection.UNAUTHENTIC, flight.kind.name)

    # --- the flights --------------------------------------------------------------------------------------------------

    def _receive_f2(self, flight: Flight, controller: Controller, plain: bytes, now: float) -> None:
        controller_id, stamp = plain[: limits.ID_BYTES], plain[limits.ID_BYTES :][: limits.TS_BYTES]
        rn_c, flight1 = plain[-_F1_BYTES - limits.KEY_BYTES : -_F1_BYTES], plain[-_F1_BYTES:]
        if controller_id != controller.controller_id or flight1[:2] != bytes([VERSION, Kind.F1]):
            self._events.reject(Rejection.UNAUTHENTIC, "flight 2")
            return
        first = decode(flight1)
        node = self._admitted(first.node_id, controller)
        if node is None:
            return
        ts = int.from_bytes(stamp)
        if abs(self.config.clock() - ts) > self.config.window_s:
            self._refuse(first.node_id, controller, Refusal.CLOCK)
            return
        if not keys.proves_1(node.key, first):
            self._refuse(first.node_id, controller, Refusal.NOT_THE_KEY)
            return
        names = keys.NamesOfRun(first.node_id, controller_id, flight.tid)
        made = keys.derive(node.key, first.rn_i, rn_c, names)
        flight4 = keys.seal(made.kw, Kind.F4, flight.tid, controller_id + rn_c, flight1)
        flight5 = keys.flight_5(made.psk, flight1, flight4)
        candidate = Candidate(controller_id, flight.tid, made.psk, flight5, ts + self.config.lifetime_s)
        if node.candidate is None or replace(candidate, until=node.candidate.until) != node.candidate:
            number = int.from_bytes(flight.tid)
            if number <= node.last.get(controller_id, 0):
                self._refuse(first.node_id, controller, Refusal.OLD_TID)
                return
            self._change(node, I.F2, now, candidate=candidate, last={**node.last, controller_id: number})
        answer = stamp + first.node_id + made.kw + made.psk
        self._store.send(keys.seal(keys.down_key(controller.sk_cs), Kind.F3, flight.tid, answer))

    def _receive_f6(self, flight: Flight, controller: Controller, plain: bytes, now: float) -> None:
        node_id, flight5 = plain[: limits.ID_BYTES], plain[limits.ID_BYTES :]
        node = self._admitted(node_id, controller)
        if node is None:
            return
        candidate, run = node.candidate, (controller.controller_id, flight.tid)
        if (
            candidate is not None
            and (candidate.controller_id, candidate.tid) == run
            and compare_digest(candidate.flight5, flight5)
        ):
            self._change(
                node,
                I.F6,
                now,
                key=candidate.psk,
                until=candidate.until,
                controller_id=controller.controller_id,
                candidate=None,
                done=flight.tid,
            )
            if self._context.key_log is not None:
                self._context.key_log(key_log_line("PSK", node_id, candidate.psk))
            self._events.put(NodeJoined(node_id, controller.controller_id, candidate.psk))
        elif (node.controller_id, node.done) != run:
            self._refuse(node_id, controller, Refusal.NOTHING_OPEN)
            return
        self._store.send(keys.seal(keys.down_key(controller.sk_cs), Kind.F7, flight.tid, node_id))

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _admitted(self, node_id: bytes, controller: Controller) -> NodeRecord | None:
        """Return the node, if this controller may let it join; else None, and why is told."""
        node = self._store.get(node_id)
        if node is None:
            self._refuse(node_id, controller, Refusal.UNKNOWN_NODE)
        elif node.revoked:
            self._refuse(node_id, controller, Refusal.REVOKED)
        elif node.domain != controller.domain:
            self._refuse(node_id, controller, Refusal.OTHER_DOMAIN)
        else:
            return node
        return None

    def _refuse(self, node_id: bytes, controller: Controller, reason: Refusal) -> None:
        self._events.put_if_room(NodeRefused(node_id, controller.controller_id, reason))

    def _change(self, node: NodeRecord, given: SbsInput, now: float, **changes: Any) -> None:
        state = S.ONE_KEY if node.candidate is None else S.TWO_KEYS
        machine = Machine(self._context.name, "sbs", SBS_TABLE, state, self._context.tracer)
        machine.on(given, now, "node", node.node_id.hex())
        self._store.put(replace(node, **changes, revision=node.revision + 1))
