"""Packets of S that Eve lacks, guessed: the response's HMAC [9] tells her, offline, when she is right (row 6).

One try is one hash or one key derivation. Both attacks end at a stated number of tries, and say how many they made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Final

from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, burst_rand

DEFAULT_WORK: Final = 1 << 18
"""Tries: a second or two of one core."""
MOST_FLIPPED: Final = 2
"""Wrong bits of one copy that are tried for; one more costs some 64 times the work."""


class Repair:
    """Makes copies good whose CRC was wrong: bits are flipped back until the packet's own unkeyed hash fits.

    Needs: a radio that hands on packets with a wrong CRC (a sniffer; an onboard radio does not), and few wrong bits.
    The unkeyed hash singles out one candidate in 2^24 (compact) or 2^128; what it lets through, [9] decides. Of a frame
    with L bits and t of them wrong it takes up to C(L,0) + ... + C(L,t) tries: 18 529 for two of the 192 bits of an
    advertisement, 1.2 million for three.
    """

    def __init__(self, knowledge: Knowledge, work: int = DEFAULT_WORK, flipped: int = MOST_FLIPPED) -> None:
        self._knowledge: Final = knowledge
        self._left = work
        self._flipped: Final = flipped
        self.tries = 0
        self._candidates: Final[dict[int, set[bytes]]] = {}

    def hear(self, damaged: bytes) -> bool:
        """Take a copy with a wrong CRC, and return whether a packet that she lacks came out of it. Nothing once the
        work is done."""
        bits, whole = 8 * len(damaged), int.from_bytes(damaged)
        for flipped in range(self._flipped + 1):
            for places in combinations(range(bits), flipped):
                if not self._spend():
                    return False
                frame = self._frame((whole ^ sum(1 << place for place in places)).to_bytes(len(damaged)))
                if frame is not None:
                    if frame.seq not in self._knowledge.burst:
                        self._candidates.setdefault(frame.seq, set()).add(frame.message)
                    return frame.seq not in self._knowledge.burst
        return False

    def initial_key(self) -> KeyMaterial | None:
        """Return K_0, if what she heard and repaired gives it."""
        return _first_key(self._knowledge, self._candidates, self._spend)

    def apply(self) -> int:
        """Put what was repaired into the knowledge, if [9] confirms it or nothing else can be said; how many packets of
        S that were."""
        material = self.initial_key()
        lacking = self._knowledge.missing or frozenset()
        singled = {seq: found for seq, found in self._candidates.items() if seq in lacking and len(found) == 1}
        if material is None and not singled:
            return 0
        for seq, found in singled.items():
            self._knowledge.burst[seq] = next(iter(found))
        return len(singled)

    def _frame(self, data: bytes) -> Frame | None:
        try:
            frame = decode(data)
        except FrameError:
            return None
        request = self._knowledge.request
        if frame.kind not in (Kind.RAND, Kind.RAND_COMPACT) or request is None:
            return None
        return frame if frame.rand == burst_rand(request, compact=frame.kind is Kind.RAND_COMPACT) else None

    def _spend(self) -> bool:
        self._left -= 1
        self.tries += self._left >= 0
        return self._left >= 0


class BruteForce:
    """Tries all messages that a weak generator can have made for the packets of S that she lacks.

    Needs: a sender whose burst messages hold few random bits. Ours hold 128 (compact) or 256 in both profiles, so it
    falls only where the device's generator is broken. `messages` lists what that generator can make.
    """

    def __init__(self, knowledge: Knowledge, messages: Iterable[bytes], work: int = DEFAULT_WORK) -> None:
        self._knowledge: Final = knowledge
        self._messages: Final = messages
        self._left = work
        self.tries = 0

    def initial_key(self) -> KeyMaterial | None:
        """Return K_0, if it is found within the work."""
        missing = self._knowledge.missing
        if missing is None:
            return None
        return _first_key(self._knowledge, dict.fromkeys(missing, self._messages), self._spend)

    def _spend(self) -> bool:
        self._left -= 1
        self.tries += self._left >= 0
        return self._left >= 0


def _first_key(
    knowledge: Knowledge, candidates: Mapping[int, Iterable[bytes]], may_try: Callable[[], bool]
) -> KeyMaterial | None:
    missing = knowledge.missing
    if missing is None or not missing <= candidates.keys():
        return None
    for guess in _guesses(sorted(missing), candidates):
        if not may_try():
            return None
        material = knowledge.initial_key(guess)
        if material is not None:
            return material
    return None


def _guesses(missing: list[int], candidates: Mapping[int, Iterable[bytes]]) -> Iterator[dict[int, bytes]]:
    for chosen in product(*(candidates[seq] for seq in missing)):
        yield dict(zip(missing, chosen, strict=True))
