"""The profile `paper`: SBI, SBR and SBS to the letter, with the holes that the letter has. To be looked at, not used.

1 ID, RN_i in clear                                  4 TID, AES-ECB under IK {RN_i, RN_c}
2 CCM under SK_cs {ID_c, TS, RN_c, TID, flight 1}    5 AES-ECB under PSK {RN_c}
3 CCM under SK_cs {IK, TS, TID}

Nothing is repeated, nothing acknowledges flight 5, and the SBS puts the PSK in the place of IK before it answers.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import field
from hmac import compare_digest
from typing import Final

from bt_selfsecure.crypto import CCM_NONCE_BYTES, ccm_open, ccm_seal
from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.config import Clock, Controller
from bt_selfsecure.protocols.bootstrap.events import Event, NodeJoined, NodeRefused, Refusal
from bt_selfsecure.protocols.bootstrap.keys import ecb, ecb_open, paper_psk
from bt_selfsecure.protocols.bootstrap.messages import FlightError, Kind, Profile, kind_of
from bt_selfsecure.protocols.bootstrap.write_ahead import FlightQueue
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.value import value

_KEY: Final = limits.KEY_BYTES


class _PaperEnd:
    """What the three have in common: the verbs, of which the timer does nothing."""

    takes: Mapping[Kind, str]

    def __init__(self, random: Random) -> None:
        self._random: Final = random
        self._events: Final = FlightQueue()
        self._outbox: list[bytes] = []

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def next_event(self) -> Event | None:
        return self._events.take()

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        """Do nothing: the paper repeats nothing."""

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def receive_frame(self, data: bytes, now: float) -> None:
        try:
            kind = kind_of(Profile.PAPER, data)
        except FlightError as error:
            self._events.reject(Rejection.MALFORMED, error.reason.value)
            return
        handler = self.takes.get(kind)
        if handler is None:
            self._events.reject(Rejection.NOT_FOR_US, kind.name)
        else:
            getattr(self, handler)(data, now)

    def _seal(self, key: bytes, plain: bytes) -> bytes:
        nonce = self._random(CCM_NONCE_BYTES)
        return nonce + ccm_seal(key, nonce, plain)


def _unseal(key: bytes, data: bytes) -> bytes | None:
    return ccm_open(key, data[:CCM_NONCE_BYTES], data[CCM_NONCE_BYTES:])


class PaperSbi(_PaperEnd):
    """Is the new node."""

    takes = {Kind.F4: "_receive_f4"}  # noqa: RUF012 - a table

    def __init__(self, node_id: bytes, key: bytes, random: Random) -> None:
        super().__init__(random)
        self.node_id: Final = node_id
        self.key = key
        """IK, then PSK."""
        self._rn_i = b""

    def start(self, now: float) -> None:
        """Send flight 1."""
        self._rn_i = self._random(_KEY)
        self._outbox.append(self.node_id + self._rn_i)

    def _receive_f4(self, data: bytes, now: float) -> None:
        opened = ecb_open(self.key, data[limits.TID_BYTES :])
        if not self._rn_i or not compare_digest(opened[:_KEY], self._rn_i):
            self._events.reject(Rejection.UNAUTHENTIC, "flight 4")
            return
        rn_c = opened[_KEY:]
        self.key = paper_psk(self.key, self._rn_i, rn_c)
        self._rn_i = b""
        self._events.put(NodeJoined(self.node_id, b"", self.key))
        self._outbox.append(ecb(self.key, rn_c))


@value
class _Open:
    """Is a transaction of an SBR."""

    ts: bytes
    flight1: bytes
    rn_c: bytes = field(repr=False)
    psk: bytes = field(default=b"", repr=False)


class PaperSbr(_PaperEnd):
    """Is the controller. Flight 3 hands it IK of its nodes."""

    takes = {Kind.F1: "_receive_f1", Kind.F3: "_receive_f3", Kind.F5: "_receive_f5"}  # noqa: RUF012 - a table

    def __init__(self, controller: Controller, clock: Clock, random: Random) -> None:
        super().__init__(random)
        self._controller: Final = controller
        self._clock: Final = clock
        self._open: Final[dict[bytes, _Open]] = {}
        self._tid = 0

    def _receive_f1(self, data: bytes, now: float) -> None:
        self._tid += 1
        tid, ts = self._tid.to_bytes(limits.TID_BYTES), int(self._clock()).to_bytes(limits.TS_BYTES)
        self._open[tid] = _Open(ts, data, self._random(_KEY))
        if len(self._open) > limits.MOST_OPEN:
            del self._open[next(iter(self._open))]
        told = self._controller.controller_id + ts + self._open[tid].rn_c + tid + data
        self._outbox.append(self._seal(self._controller.sk_cs, told))

    def _receive_f3(self, data: bytes, now: float) -> None:
        plain = _unseal(self._controller.sk_cs, data)
        if plain is None:
            self._events.reject(Rejection.UNAUTHENTIC, "flight 3")
            return
        ik, ts, tid = plain[:_KEY], plain[_KEY : -limits.TID_BYTES], plain[-limits.TID_BYTES :]
        run = self._open.get(tid)
        if run is None or run.ts != ts or run.psk:
            self._events.reject(Rejection.REPLAY, "flight 3")
            return
        rn_i = run.flight1[limits.ID_BYTES :]
        self._open[tid] = _Open(ts, run.flight1, run.rn_c, paper_psk(ik, rn_i, run.rn_c))
        self._outbox.append(tid + ecb(ik, rn_i + run.rn_c))

    def _receive_f5(self, data: bytes, now: float) -> None:
        """Flight 5 does not say of which transaction it is."""
        for tid, run in self._open.items():
            if run.psk and compare_digest(data, ecb(run.psk, run.rn_c)):
                del self._open[tid]
                node_id = run.flight1[: limits.ID_BYTES]
                self._events.put(NodeJoined(node_id, self._controller.controller_id, run.psk))
                return
        self._events.reject(Rejection.UNAUTHENTIC, "flight 5")


class PaperSbs(_PaperEnd):
    """Is the server. `nodes` has the key of each by its ID, and is changed."""

    takes = {Kind.F2: "_receive_f2"}  # noqa: RUF012 - a table

    def __init__(
        self,
        controllers: Mapping[bytes, Controller],
        nodes: MutableMapping[bytes, bytes],
        clock: Clock,
        random: Random,
        window_s: float = limits.WINDOW_S,
    ) -> None:
        super().__init__(random)
        self._controllers: Final = controllers
        self.nodes: Final = nodes
        self._clock: Final = clock
        self._window_s: Final = window_s

    def _receive_f2(self, data: bytes, now: float) -> None:
        for controller in self._controllers.values():
            plain = _unseal(controller.sk_cs, data)
            if plain is not None:
                self._answer(controller, plain)
                return
        self._events.reject(Rejection.UNAUTHENTIC, "flight 2")

    def _answer(self, controller: Controller, plain: bytes) -> None:
        controller_id, ts = plain[: limits.ID_BYTES], plain[8:16]
        rn_c, tid, node_id, rn_i = plain[16:32], plain[32:40], plain[40:48], plain[48:]
        if controller_id != controller.controller_id:
            self._events.reject(Rejection.UNAUTHENTIC, "flight 2")
            return
        ik = self.nodes.get(node_id)
        if ik is None or abs(self._clock() - int.from_bytes(ts)) > self._window_s:
            reason = Refusal.UNKNOWN_NODE if ik is None else Refusal.CLOCK
            self._events.put_if_room(NodeRefused(node_id, controller_id, reason))
            return
        self.nodes[node_id] = paper_psk(ik, rn_i, rn_c)
        self._events.put(NodeJoined(node_id, controller_id, self.nodes[node_id]))
        self._outbox.append(self._seal(controller.sk_cs, ik + ts + tid))
