"""Endpoints that the narrator watches: the burst packets of an establishment, the attempts of each round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import FrameError, Kind, decode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.session import Session


class WatchedEnd:
    """This is an endpoint, and the burst packets that it sent, or received without contradiction."""

    def __init__(self, endpoint: Initiator | Responder, changed: Callable[[], None]) -> None:
        self._endpoint: Final = endpoint
        self._changed: Final = changed
        self.seqs: Final[set[int]] = set()
        self._messages: Final[dict[int, bytes]] = {}
        self.get_timer: Final = endpoint.get_timer
        self.handle_timer: Final = endpoint.handle_timer
        self.next_event: Final = endpoint.next_event

    def _note(self, data: bytes) -> None:
        try:
            frame = decode(data)
        except FrameError:
            return
        if frame.kind in (Kind.RAND, Kind.RAND_COMPACT):
            self.seqs.add(frame.seq)
            if self._messages.setdefault(frame.seq, frame.message) != frame.message:
                self.seqs.discard(frame.seq)  # struck out: row 5
            self._changed()

    def receive_frame(self, data: bytes, now: float) -> None:
        if isinstance(self._endpoint, Responder):
            self._note(data)
        self._endpoint.receive_frame(data, now)

    def frames_to_send(self, now: float) -> list[bytes]:
        frames = self._endpoint.frames_to_send(now)
        for data in frames if isinstance(self._endpoint, Initiator) else ():
            self._note(data)
        return frames


class WatchedSession:
    """This is a session, and how often it sent the message of each round."""

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._attempts: Final[Counter[int]] = Counter()
        self.get_timer: Final = session.get_timer
        self.handle_timer: Final = session.handle_timer
        self.next_event: Final = session.next_event
        self.receive_frame: Final = session.receive_frame

    @property
    def attempts(self) -> list[int]:
        return [self._attempts[seq] for seq in sorted(self._attempts)]

    def frames_to_send(self, now: float) -> list[bytes]:
        frames = self._session.frames_to_send(now)
        data = sum(decode(frame).kind is Kind.DATA for frame in frames)
        if data:
            self._attempts[self._session.record.sending.chain.seq] += data
        return frames
