"""Every establishment in what was heard, by one Eve or by several who put their captures together.

What belongs together is told by session id, pair id and Seq alone: the order of the frames does not matter, so nobody's
clock need be trusted, and captures may be fed one after the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from bt_selfsecure.core import limits
from bt_selfsecure.core.frames import Frame, FrameError, Kind, decode
from bt_selfsecure.core.material import pair_id
from bt_selfsecure.eve.knowledge import Knowledge

_BURST: Final = (Kind.RAND, Kind.RAND_COMPACT)


class Eavesdropper:
    """Files what she hears; `establishments` says what it comes to. Frames of the same content count once."""

    def __init__(self) -> None:
        self.kinds: Final[Counter[str]] = Counter()
        """Frames heard, by kind, copies included."""
        self.contradictions = 0
        """Burst packets whose Seq was there with another content: somebody forges, or a check failed to tell damage."""
        self.session: Final[dict[tuple[bytes, bytes], Frame]] = {}
        """Frames of sessions (Phase 1), each once."""
        self._requests: Final[dict[bytes, Frame]] = {}
        self._accepts: Final[defaultdict[bytes, dict[bytes, Frame]]] = defaultdict(dict)
        self._bursts: Final[defaultdict[bytes, dict[int, bytes]]] = defaultdict(dict)
        self._responses: Final[dict[bytes, Frame]] = {}

    def hear(self, data: bytes) -> Frame | None:
        """One datagram; the frame, if it is one of ours."""
        try:
            frame = decode(data)
        except FrameError:
            return None
        self.kinds[frame.kind.name.lower()] += 1
        if frame.kind is Kind.REQUEST:
            self._requests.setdefault(frame.rand, frame)
        elif frame.kind is Kind.ACCEPT:
            self._accepts[frame.message[: limits.SESSION_ID_BYTES]][frame.rand] = frame
        elif frame.kind in _BURST:
            known = self._bursts[frame.rand].setdefault(frame.seq, frame.message)
            self.contradictions += known != frame.message
        elif frame.kind is Kind.RESPONSE:
            pair = frame.message[: limits.PAIR_ID_BYTES]
            if pair not in self._responses or frame.seq >= self._responses[pair].seq:
                self._responses[pair] = frame  # of the last part: the final S
        elif frame.kind.phase:
            self.session[frame.mac, frame.rand + frame.message] = frame
        return frame

    def establishments(self) -> list[Knowledge]:
        """One for each pair that she can tell apart; requests that nothing followed are none.

        A response without the accept before it is taken to belong to the only establishment that lacks one, if there is
        only one.
        """
        found, named, claimed = [], set(), set()
        for request in self._requests.values():
            ids = [request.rand[:size] for size in (limits.SESSION_ID_BYTES, limits.SESSION_TAG_BYTES)]
            burst = {seq: message for name in ids for seq, message in self._bursts.get(name, {}).items()}
            claimed.update(ids)
            accepts: list[Frame | None] = []
            accepts += [a for a in self._accepts.get(ids[0], {}).values() if a.profile is request.profile]
            for accept in accepts or [None] * bool(burst):
                pair = pair_id(request, accept) if accept else b""
                response = self._responses.get(pair)
                named.add(pair)
                if response is not None and response.profile is not request.profile:
                    response = None
                found.append(Knowledge(request, accept, response, burst))
        found += [Knowledge(burst=burst) for name, burst in self._bursts.items() if name not in claimed]
        unanswered = [knowledge for knowledge in found if knowledge.accept is None]
        unclaimed = [response for pair, response in self._responses.items() if pair not in named]
        if len(unanswered) == len(unclaimed) == 1:
            unanswered[0].response = unclaimed[0]
        return found
