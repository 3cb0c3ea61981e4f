"""Captures of our bursts as runs: one capture a listener, all taken at the same time.

What a capture does not have counts as missed, so it has to be whole: one that could not be read to its end, of which
packets were cut, or in which nothing is ours is refused. That it ran all the time can't be seen in it. Packets that
others heard before its first packet, or after its last, are pointed out where chance would not leave so many, and so is
a long silence between.

A copy with a wrong CRC is not heard. Of an advertisement that another listener has whole it can be told which packet it
is a copy of, and so it is kept beside as copies of what was not heard: who has the copy can make it good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Reader, damaged
from bt_selfsecure.eve.sources import Capture, CapturedPacket
from bt_selfsecure.eve.sources.packet import CUT, UNHEARD
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import (
    COMPACT_FRAME_BYTES,
    RAND_FRAME_BYTES,
    FrameError,
    Kind,
    decode,
)
from bt_selfsecure.stats.losses import count_heard
from bt_selfsecure.sweep.circumstances import Circumstances
from bt_selfsecure.sweep.gathering import HEARD, MISSED, Gathered
from bt_selfsecure.sweep.packing import Packed
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.tables import Progress

BURST: Final = (Kind.RAND, Kind.RAND_COMPACT)
BY_CHANCE: Final = 1e-3
"""So seldom a listener that heard the rest of a burst as it did would miss all packets at an end of its capture."""

MOST_BURSTS: Final = 1 << 14
"""Of one capture: five days of a burst each half minute. Whoever makes more up gets no run and no room for each."""

SEGMENTS: Final = 18
"""By which damaged copies are looked up: 2^80 tries make up to 17 wrong bits good (`count_heard`)."""

Burst = tuple[Kind, bytes]
"""Bursts are told apart by the session id (or tag) in their packets."""


@dataclass(slots=True)
class _Packet:
    """This is one packet of a burst at one listener."""

    time: float
    """Of its first copy; 0 where it is not known."""
    data: int
    """The frame, as a number."""
    copies: int = 0
    rssi: float | None = None


@dataclass(slots=True)
class _Captured:
    """This is what one capture has."""

    file: Path
    packets: int = 0
    wrong_crc: int = 0
    ours_wrong: int = 0
    """Of these as many look like packets of ours."""
    refused: int = 0
    """Burst packets whose number no burst reaches: somebody forges."""
    copies: list[int] = field(default_factory=list)
    """What may be a packet of ours with a wrong CRC, as a number, whichever bits are flipped."""
    first: float = 0.0
    last: float = 0.0
    """The times of its first and last packet, whosever; 0 where it has none."""
    bursts: dict[Burst, dict[int, _Packet]] = field(default_factory=dict)

    @property
    def ours(self) -> int:
        return sum(packet.copies for burst in self.bursts.values() for packet in burst.values())

    def as_json(self) -> dict[str, Any]:
        """Return what the manifest says of a capture."""
        return {
            "file": self.file.name,
            "packets": self.packets,
            "ours": self.ours,
            "wrong_crc": self.wrong_crc,
            "ours_wrong_crc": self.ours_wrong,
            "refused": self.refused,
            "hands_on_damaged": bool(self.wrong_crc),
        }


def add_to(store: Store, files: Mapping[str, Path], how: Circumstances, progress: Progress) -> int:
    """Add each burst that any listener heard as a run, and return how many. `how.packets` is N; without it the last
    packet that anybody heard is taken for the last that was sent. A listener who heard nothing of a burst missed all of
    it. What the captures had, and whom they may not have covered, is in the manifest of these runs. Raises `UsageError`
    for a capture that tells nothing of what was missed, see above."""
    captures: dict[str, _Captured] = {}
    for number, (listener, file) in enumerate(files.items()):
        progress(number, len(files))
        captures[listener] = _read(listener, file)
    began: dict[Burst, float] = {}
    for each in captures.values():
        for burst, packets in each.bursts.items():
            began[burst] = min(began.get(burst, float("inf")), *(packet.time for packet in packets.values()))
    if not began:
        raise UsageError("all burst packets of ours in the captures have a wrong CRC: capture nearer to the sender")
    bursts = sorted(began, key=lambda each: began[each])
    clocks = _clocks(captures)
    repeats = store.count()
    ends = {(burst, name): _not_covered(captures, clocks, name, burst) for burst in bursts for name in captures}
    silences = {
        name: max((_silence(captures, name, burst) for burst in bursts if not ends[burst, name]), default=0)
        for name in captures
    }
    store.begin(
        {
            **store.manifest,
            "captured": {
                "captures": {name: each.as_json() for name, each in captures.items()},
                "not_covered": [
                    {"burst": burst[1].hex(), "listener": name, "packets": outside}
                    for (burst, name), outside in ends.items()
                    if outside
                ],
                "silences": silences,
            },
        }
    )
    for repeat, burst in enumerate(bursts, start=repeats):
        last = max(max(each.bursts[burst]) for each in captures.values() if burst in each.bursts)
        if how.packets is not None and last >= how.packets:
            raise UsageError(f"a capture has packet {last} of a burst: --packets {how.packets} is too few")
        count = last + 1 if how.packets is None else how.packets
        notes = how.notes({name: each.file.name for name, each in captures.items()}, burst=burst[1].hex())
        size = COMPACT_FRAME_BYTES if burst[0] is Kind.RAND_COMPACT else RAND_FRAME_BYTES
        info = replace(how.run(count, repeat, notes), started=_moment(began[burst]), size_bytes=size)
        store.add_packed(info, _packed(captures, burst, count))
    return len(bursts)


def _packed(captures: Mapping[str, _Captured], burst: Burst, count: int) -> dict[str, Packed]:
    """Return each listener's receptions: what it has no packet of was missed."""
    sent = {seq: packet.data for each in captures.values() for seq, packet in each.bursts.get(burst, {}).items()}
    listeners = {}
    for name, each in captures.items():
        packets, rows = each.bursts.get(burst, {}), Gathered()
        lacking = {seq: data for seq, data in sent.items() if seq not in packets}
        damaged = _repairable(each.copies, lacking) if burst[0] is Kind.RAND_COMPACT else Counter()
        for seq in sorted(packets.keys() | damaged.keys()):
            packet = packets.get(seq)
            if packet:
                rows.put(seq, HEARD, packet.rssi, packet.copies)
            else:
                rows.put(seq, MISSED, None, damaged[seq])
        listeners[name] = rows.packed(range(count))
    return listeners


def _repairable(copies: Sequence[int], lacking: Mapping[int, int]) -> Counter[int]:
    """Return how many damaged copies there are of each packet that came whole to others only: such as can be made good,
    by the number of their wrong bits."""
    found: Counter[int] = Counter()
    alike: dict[tuple[int, int], list[int]] = {}
    for seq, data in lacking.items():
        for segment in _segments(data):
            alike.setdefault(segment, []).append(seq)
    for copy in copies:
        near = {seq: (copy ^ lacking[seq]).bit_count() for each in _segments(copy) for seq in alike.get(each, ())}
        if near:
            seq = min(near, key=near.__getitem__)
            found.update(count_heard(set(), {seq: near[seq]}, packet_bits=8 * COMPACT_FRAME_BYTES))
    return found


def _segments(frame: int) -> Iterator[tuple[int, int]]:
    """Yield where each segment of a frame begins, and what it is: one of them is whole in any copy with fewer wrong
    bits than there are segments."""
    for low, high in pairwise(8 * COMPACT_FRAME_BYTES * number // SEGMENTS for number in range(SEGMENTS + 1)):
        yield low, frame >> low & (1 << high - low) - 1


def _moment(seconds: float) -> datetime | None:
    """Return the time, or None for 0, which is how a reader says that it does not know it."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


# --- Reading ----------------------------------------------------------------------------------------------------------


def _read(listener: str, file: Path) -> _Captured:
    """Return what a capture has. Raises `UsageError`, which names file and remedy, where it tells nothing of what was
    missed."""
    captured, reader = _Captured(file), Reader(HAOXIAO)
    with Capture(str(file)) as source:
        try:
            for heard in source:
                captured.packets += 1
                if heard.time:
                    captured.first = min(captured.first or heard.time, heard.time)
                    captured.last = max(captured.last, heard.time)
                _take(captured, reader, heard)
        except (ArithmeticError, LookupError, ValueError) as error:  # a capture may hold anything
            raise UsageError(f"{file} has a packet that can't be read ({error}): leave the capture out") from error
    for why in (why for why in source.skipped if why in UNHEARD):
        count = f" ({source.skipped[why]:,})" if why == CUT else ""
        again = "all of each packet" if why == CUT else "or cut all captures, with editcap, to the time before that"
        raise UsageError(
            f"{file}: {why}{count}, and what can't be read must not count as missed: capture again, {again}, or leave "
            f"{listener} out"
        )
    if not captured.ours and not captured.ours_wrong:
        raise UsageError(
            f"{file} has no burst packet of ours: whether {listener} missed all, or the capture is of another time or "
            "channel, can't be told. Look at it with `bt-selfsecure eve read`; capture again, or leave "
            f"{listener} out"
        )
    return captured


def _take(captured: _Captured, reader: Reader, heard: CapturedPacket) -> None:
    if heard.crc_ok is False:
        captured.wrong_crc += 1
        if (copy := damaged(heard, HAOXIAO.advertised)) is not None:
            captured.ours_wrong += _burst_packet(copy) is not None
            captured.copies.append(int.from_bytes(copy))
    for datagram in reader.read(heard):
        if (found := _burst_packet(datagram.data)) is not None:
            burst, seq = found
            if seq >= limits.MAX_BURST:
                captured.refused += 1
                continue
            if burst not in captured.bursts and len(captured.bursts) >= MOST_BURSTS:
                raise UsageError(
                    f"{captured.file} has packets of more than {MOST_BURSTS:,} bursts, and somebody may have made them "
                    "up: cut it, with editcap, to the time of the sweep"
                )
            packet = captured.bursts.setdefault(burst, {}).setdefault(
                seq, _Packet(heard.time, int.from_bytes(datagram.data))
            )
            packet.copies += 1
            packet.rssi = max((level for level in (packet.rssi, heard.rssi) if level is not None), default=None)


def _burst_packet(data: bytes) -> tuple[Burst, int] | None:
    """Return its burst and number; None if it is none."""
    try:
        frame = decode(data)
    except FrameError:
        return None
    return ((frame.kind, frame.rand), frame.seq) if frame.kind in BURST else None


# --- What a capture covers --------------------------------------------------------------------------------------------


def _clocks(captures: Mapping[str, _Captured]) -> dict[str, float]:
    """Return by how many seconds each one's clock is ahead of the one with most packets, by those that both heard; 0
    without any."""
    reference = max(captures.values(), key=lambda each: each.ours)
    ahead = {}
    for name, each in captures.items():
        both = (
            packet.time - other.time
            for burst, packets in each.bursts.items()
            for seq, packet in packets.items()
            if (other := reference.bursts.get(burst, {}).get(seq)) and packet.time and other.time
        )
        ahead[name] = median(times) if (times := list(both)) else 0.0
    return ahead


def _not_covered(captures: Mapping[str, _Captured], clocks: Mapping[str, float], listener: str, burst: Burst) -> int:
    """Return packets of the burst that others heard when this listener's capture had not begun, or had ended; 0 if they
    are so few that chance may be why, or no times are known."""
    mine = captures[listener]
    heard = mine.bursts.get(burst, {})
    others: dict[int, float] = {}
    for name, each in captures.items():
        for seq, packet in each.bursts.get(burst, {}).items():
            if packet.time:
                others.setdefault(seq, packet.time - clocks[name] + clocks[listener])
    if not mine.last:
        return 0
    outside = sum(seq not in heard and not mine.first <= time <= mine.last for seq, time in others.items())
    inside, hit = len(others) - outside, len(heard.keys() & others.keys())
    missed = (inside - hit + 1) / (inside + 2)  # Laplace's rule
    return outside if outside and (not inside or missed**outside < BY_CHANCE) else 0


def _silence(captures: Mapping[str, _Captured], listener: str, burst: Burst) -> int:
    """Return the most packets in a row, of those that others heard, which this listener missed."""
    mine = captures[listener].bursts.get(burst, {})
    others = {seq for name, each in captures.items() if name != listener for seq in each.bursts.get(burst, ())}
    return max(
        (len(list(seqs)) for missed, seqs in groupby(sorted(others), lambda seq: seq not in mine) if missed), default=0
    )
