"""Every establishment in what was heard, by one Eve or by several who put their captures together.

What belongs together is told by session id, pair id and Seq alone: the order of the frames does not matter, so nobody's
clock need be trusted, and captures may be fed one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode
from bt_selfsecure.protocols.haoxiao.material import pair_id

MOST_RIVALS: Final = 32
"""Responses of one establishment that are looked at, those heard first: honest ones are one a part, seldom above three;
and requests of one session id, of which one is honest. Whoever forges more hides what is behind, and is told to."""
MOST_FRAMES: Final = 1 << 20
"""That are kept: some 200 MB, a week of two busy devices. A small file may unpack to a hundred times that."""
MOST_BYTES: Final = 1 << 27
"""Of what is kept of them: packets of bursts come to a quarter of it, a session of long messages to all."""
MOST_BEGUN: Final = 1 << 14
"""Requests, accepts, responses and bursts among them: of some three thousand establishments, which are more frames than
may be kept. Each takes as much room as ten burst packets, and whoever makes sessions up fills nothing else."""
OCTET_PACKETS: Final = 8
"""That an octet of a received set stands for, at most."""
_BURST: Final = (Kind.RAND, Kind.RAND_COMPACT)


class Eavesdropper:
    """Files what she hears; `establishments` says what it comes to. Frames of the same content count once."""

    def __init__(self) -> None:
        self.kinds: Final[Counter[str]] = Counter()
        """Frames heard, by kind, copies included."""
        self.contradictions = 0
        """Burst packets whose Seq was there with another content: somebody forges, or a check failed to tell damage."""
        self.refused = 0
        """Burst packets whose Seq no burst reaches: somebody forges."""
        self.not_kept = 0
        """Frames heard when there was no room any more, copies included."""
        self.left_out = 0
        """Requests that `establishments` did not look at: too many had the same session id."""
        self.data_frames = 0
        """Data frames, each once."""
        self._kept = self._begun = self._octets = 0
        self._session: Final[dict[bytes, None]] = {}
        """Frames of sessions (Phase 1) as they came: half the room of what they say."""
        self._requests: Final[dict[bytes, Frame]] = {}
        self._accepts: Final[dict[bytes, dict[bytes, Frame]]] = {}
        self._bursts: Final[dict[bytes, dict[int, bytes]]] = {}
        self._responses: Final[dict[bytes, dict[bytes, Frame]]] = {}

    def hear(self, data: bytes) -> Frame | None:
        """Take one datagram; return the frame, if it is one of ours."""
        try:
            frame = decode(data)
        except FrameError:
            return None
        self.kinds[frame.kind.name.lower()] += 1
        if frame.kind in _BURST:
            self._hear_burst(frame)
        elif frame.kind is Kind.REQUEST:
            self._file(self._requests, frame.rand, frame)
        elif frame.kind is Kind.ACCEPT:  # by its content: another one with this Rand does not replace it
            self._file_under(self._accepts, frame.message[: limits.SESSION_ID_BYTES], frame.rand + frame.message, frame)
        elif frame.kind is Kind.RESPONSE:
            self._file_under(self._responses, frame.message[: limits.PAIR_ID_BYTES], frame.mac + frame.message, frame)
        elif frame.kind.phase and data not in self._session and self._has_room(len(data)):
            self._session[data] = None
            self.data_frames += frame.kind is Kind.DATA
        return frame

    def session(self) -> Iterator[Frame]:
        """Go through the frames of sessions, each once."""
        return map(decode, self._session)

    def _hear_burst(self, frame: Frame) -> None:
        if frame.seq >= limits.MAX_BURST:
            self.refused += 1
            return
        burst = self._bursts.get(frame.rand)
        known = burst.get(frame.seq) if burst is not None else None
        if known is not None:
            self.contradictions += known != frame.message
        elif self._has_room(len(frame.message), begins=burst is None):
            self._bursts.setdefault(frame.rand, {})[frame.seq] = frame.message

    def _file(self, where: dict[bytes, Frame], key: bytes, frame: Frame) -> None:
        """What was filed under this key first stays; a copy takes no room."""
        if key not in where and self._has_room(len(frame.message), begins=True):
            where[key] = frame

    def _file_under(self, where: dict[bytes, dict[bytes, Frame]], name: bytes, content: bytes, frame: Frame) -> None:
        """The same, among those of this name, by a digest of the content, which may be long."""
        group = where.get(name, {})
        self._file(group, blake2b(content, digest_size=16).digest(), frame)
        if group:
            where[name] = group

    def _has_room(self, octets: int, *, begins: bool = False) -> bool:
        """Return whether one more is kept, of so many octets, and count it as that or as one that is not."""
        room = self._kept < MOST_FRAMES and self._octets + octets <= MOST_BYTES
        room = room and not (begins and self._begun >= MOST_BEGUN)
        self._kept += room
        self._octets += octets * room
        self._begun += room and begins
        self.not_kept += not room
        return room

    def establishments(self, may: Callable[[int], bool] = lambda cost: True) -> Iterator[Knowledge]:
        """Yield one for each pair that she can tell apart, with the response to its last part, and all that contradict
        it; requests that nothing followed are none. Of accepts that nothing followed, no more than an initiator serves.

        In the order in which they began. `may` is asked first, of all of them, whether so much more may be looked at,
        in packets of bursts and of received sets, beginning with those that take least; nothing is built of others.

        A response without the accept before it is taken to belong to the only establishment that lacks one, if there is
        only one.
        """
        found = list(self._pairs())
        named = {pair for _, _, pair, _ in found}
        unclaimed = [pair for pair in self._responses if pair not in named]
        lacking = sum(accept is None for _, accept, _, _ in found)
        stray = unclaimed[0] if lacking == len(unclaimed) == 1 else b""
        costs, answers = [], []
        for request, accept, pair, names in found:
            responses = self._of(pair if accept else stray, request)
            cost = 1 + sum(len(self._bursts[name]) for name in names)
            cost += OCTET_PACKETS * sum(len(response.message) for response in responses[:MOST_RIVALS])
            costs.append(cost)
            answers.append(responses)
        admitted = {number for cost, number in sorted(zip(costs, range(len(costs)), strict=True)) if may(cost)}
        for number, ((request, accept, _, names), responses) in enumerate(zip(found, answers, strict=True)):
            if number in admitted:
                burst = {seq: message for name in names for seq, message in self._bursts[name].items()}
                rivals = sorted(responses[:MOST_RIVALS], key=lambda response: response.seq)
                last = rivals[-1] if rivals else None
                more = max(0, len(responses) - MOST_RIVALS)
                yield Knowledge(request, accept, last, burst, rivals=tuple(rivals), more_rivals=more)

    def _pairs(self) -> Iterator[tuple[Frame | None, Frame | None, bytes, list[bytes]]]:
        """Request and accept, as far as heard, the pair's id, and the names of its burst."""
        claimed = set()
        requests, unanswered = Counter[bytes](), Counter[bytes]()
        self.left_out = 0
        for request in self._requests.values():
            ids = [request.rand[:size] for size in (limits.SESSION_ID_BYTES, limits.SESSION_TAG_BYTES)]
            names = [name for name in ids if name in self._bursts]
            claimed.update(names)
            requests[ids[0]] += 1
            if requests[ids[0]] > MOST_RIVALS:
                self.left_out += 1
                continue
            accepts = [a for a in self._accepts.get(ids[0], {}).values() if a.profile is request.profile]
            for accept in accepts:
                pair = pair_id(request, accept)
                unanswered[ids[0]] += pair not in self._responses
                if pair in self._responses or unanswered[ids[0]] <= limits.MAX_RESPONDERS:
                    yield request, accept, pair, names
            if names and not accepts:
                yield request, None, b"", names
        for name in self._bursts:
            if name not in claimed:
                yield None, None, b"", [name]

    def _of(self, pair: bytes, request: Frame | None) -> list[Frame]:
        """The responses with this id, in the order in which they were heard."""
        responses = self._responses.get(pair, {}).values()
        return [response for response in responses if request is None or response.profile is request.profile]
