"""One end of the transmission protocol: it asks and is asked, at once and independently (section 4.3).

Both ends are the same machine, and differ in what they take: so one file serves device, gateway and cloud. An ask is
repeated until its answer comes, and an answer kept to be said again: what is asked is told to the driver once.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    ANSWERS,
    Answer,
    Ask,
    ListPiece,
    TransmissionKind,
    decode_transmission,
    encode_transmission,
)
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.value import value

FIRST_WAIT_S: Final = 2.0
LAST_WAIT_S: Final = 8.0
MOST_REPEATS: Final = 3
"""After these an ask is unanswered: 22 seconds after it was asked."""
K = TransmissionKind


class TransmissionEnd(enum.Enum):
    """Says which end this is; its value is the kinds of asks that it takes."""

    DEVICE = frozenset({K.REQUEST, K.COMMAND, K.LIST, K.REKEY})
    GATEWAY = frozenset({K.REQUEST, K.ALERT})
    UPLINK = frozenset({K.REQUEST, K.FORWARD, K.LIST, K.REKEY})
    """A gateway's toward its cloud."""
    CLOUD = frozenset({K.REQUEST, K.RECORDS})


@value
class AskReceived:
    """The other end asks; the driver answers by `answer(n, ...)`."""

    n: int
    message: Ask


@value
class AskAnswered:
    """Holds the answer to an ask of this end's."""

    n: int
    message: Answer


@value
class AskUnanswered:
    """No answer came: the connection is as good as gone."""

    n: int


TransmissionEvent = FrameRejected | AskReceived | AskAnswered | AskUnanswered


@value
class _Waiting:
    data: bytes
    kind: TransmissionKind
    sent: int
    deadline: float


class Transmission:
    """Is one end, inside of one DTLS connection. Drive it by the verbs of `Endpoint`, `ask` and `answer`."""

    def __init__(self, end: TransmissionEnd, context: EndpointContext) -> None:
        self.end: Final = end
        self._events: Final[EventQueue[TransmissionEvent]] = EventQueue(limits.MOST_EVENTS)
        self._waiting: Final[dict[int, _Waiting]] = {}
        self._answers: Final[OrderedDict[int, tuple[TransmissionKind, bytes]]] = OrderedDict()
        """What was asked, by number: its kind, and the answer, empty until there is one."""
        self._highest = -1
        self._next = int.from_bytes(context.random(2))  # so that an old answer fits no new ask by chance
        self._outbox: list[bytes] = []

    @property
    def room(self) -> int:
        """Return how many asks can be added now."""
        return limits.MOST_ASKED - len(self._waiting)

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def ask(self, message: Ask, now: float) -> int:
        """Ask the other end, and return the number under which the answer will come. Raises `LocalError` where too
        many wait already, and for what can't be said."""
        if not self.room:
            raise LocalError(f"{limits.MOST_ASKED} asks wait for their answers: ask later")
        n = self._next
        data = encode_transmission(n, message)
        self._next += 1
        self._waiting[n] = _Waiting(data, message.KIND, 1, now + FIRST_WAIT_S)
        self._outbox.append(data)
        return n

    def answer(self, n: int, message: Answer) -> None:
        """Answer what was asked under this number; what was forgotten meanwhile is not answered. Raises `LocalError`
        for what does not answer it, or can't be said."""
        kind, said = self._answers.get(n, (None, b""))
        if kind is None:
            return
        if said or message.KIND not in ANSWERS[kind]:
            raise LocalError(f"a {message.KIND.name.lower()} does not answer {kind.name.lower()} {n}")
        data = encode_transmission(n, message)
        self._answers[n] = kind, data
        self._outbox.append(data)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def receive_frame(self, data: bytes, now: float) -> None:
        try:
            n, message = decode_transmission(data)
        except MalformedError as error:
            self._events.reject(Rejection.MALFORMED, str(error))
            return
        if isinstance(message, Answer):
            self._receive_answer(n, message)
        elif message.KIND in self.end.value:
            self._receive_ask(n, message)
        else:
            self._events.reject(Rejection.NOT_FOR_US, f"a {message.KIND.name.lower()} at this end")

    def frames_to_send(self, now: float) -> list[bytes]:
        out, self._outbox = self._outbox, []
        return out

    def get_timer(self) -> float | None:
        return min((one.deadline for one in self._waiting.values()), default=None)

    def handle_timer(self, now: float) -> None:
        for n, one in [*self._waiting.items()]:
            if now < one.deadline:
                continue
            if one.sent > MOST_REPEATS:
                del self._waiting[n]
                self._events.put(AskUnanswered(n))
                continue
            wait = doubled(FIRST_WAIT_S, LAST_WAIT_S, one.sent)
            self._waiting[n] = _Waiting(one.data, one.kind, one.sent + 1, now + wait)
            self._outbox.append(one.data)

    def next_event(self) -> TransmissionEvent | None:
        return self._events.take()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _receive_answer(self, n: int, message: Answer) -> None:
        waiting = self._waiting.get(n)
        if waiting is None:
            self._events.reject(Rejection.REPLAY, "an answer to nothing that is asked")
        elif message.KIND not in ANSWERS[waiting.kind]:
            self._events.reject(Rejection.IMPLAUSIBLE, f"a {message.KIND.name.lower()} to {waiting.kind.name.lower()}")
        else:
            del self._waiting[n]
            self._events.put(AskAnswered(n, message))

    def _receive_ask(self, n: int, message: Ask) -> None:
        if n in self._answers:
            if said := self._answers[n][1]:
                self._outbox.append(said)
            return
        if n <= self._highest - limits.MOST_ANSWERS:
            self._events.reject(Rejection.REPLAY, "an ask of a time that is over")
            return
        if len(self._answers) == limits.MOST_ANSWERS:
            self._answers.popitem(last=False)
        self._highest = max(self._highest, n)
        self._answers[n] = message.KIND, b""
        self._events.put(AskReceived(n, message))


class ListPieces:
    """Puts a trust list together that comes in pieces, one list at a time."""

    def __init__(self) -> None:
        self._held = b""
        self._size = 0

    def take(self, piece: ListPiece) -> bytes | None:
        """Return the whole list once it is there. Raises `MalformedError` for a piece that does not follow."""
        if piece.offset == 0:
            self._held, self._size = b"", piece.size
        if piece.offset != len(self._held) or piece.size != self._size or piece.offset + len(piece.piece) > piece.size:
            raise MalformedError("a piece of a list that does not follow the one before")
        self._held += piece.piece
        return self._held if len(self._held) == self._size else None


def pieces_of(data: bytes) -> list[ListPiece]:
    """Return a list in the pieces in which it is sent, each to be acknowledged before the next."""
    most = limits.MOST_PIECE_BYTES
    return [ListPiece(at, len(data), data[at : at + most]) for at in range(0, len(data), most)]
