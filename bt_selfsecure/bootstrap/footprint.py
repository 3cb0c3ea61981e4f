"""What each role keeps and needs, beside the classes of constrained devices (RFC 7228, the paper's Table 1).

The bytes are those of the fields of the records, as a device in C would keep them: keys, ids, numbers and flags,
without what a language or a file adds.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, Final, NamedTuple

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.messages import SIZES, Kind, Profile
from bt_selfsecure.protocols.bootstrap.records import (
    Candidate,
    Installation,
    NodeRecord,
    Step,
    TidReservation,
    Transaction,
)

_SIZES: Final = SIZES[Profile.HARDENED]
_NUMBER_BYTES: Final = 8
_FLAG_BYTES: Final = 1
CLASSES: Final = (
    ("Class 0", "<< 10 KiB", "<< 100 KiB"),
    ("Class 1", "~ 10 KiB", "~ 100 KiB"),
    ("Class 2", "~ 50 KiB", "~ 250 KiB"),
)
"""Name, data (RAM), code (flash)."""


class RoleFootprint(NamedTuple):
    """Says what a role takes."""

    role: str
    kept_bytes: int
    """Of state, for one node."""
    buffer_bytes: int
    """Of the flights that it has in hand at once: the longest that it takes, and the longest that it makes."""
    primitives: str


def bytes_of(thing: Any) -> int:
    """Return the bytes of a record's fields."""
    if isinstance(thing, bytes | str):
        return len(thing)
    if thing is None or isinstance(thing, bool | Step):
        return _FLAG_BYTES
    if isinstance(thing, int | float):
        return _NUMBER_BYTES
    if isinstance(thing, dict):
        return sum(bytes_of(key) + bytes_of(value) for key, value in thing.items())
    if isinstance(thing, tuple):
        return sum(map(bytes_of, thing))
    assert is_dataclass(thing)
    return sum(bytes_of(getattr(thing, field.name)) for field in fields(thing))


def footprint() -> list[RoleFootprint]:
    """Return what each role takes when it holds most: in the middle of a join, with one controller."""
    node_id, key = bytes(limits.ID_BYTES), bytes(limits.KEY_BYTES)
    tid, flights = bytes(limits.TID_BYTES), {kind: bytes(size) for kind, size in _SIZES.items()}
    installation = Installation(
        node_id, key, (node_id,), node_id, flights[Kind.F1], True, key, node_id, flights[Kind.F5]
    )
    transaction = Transaction(tid, node_id, flights[Kind.F1], key, 0, Step.CONFIRMED, flights[Kind.F4], key)
    candidate = Candidate(node_id, tid, key, flights[Kind.F5], 0.0)
    node = NodeRecord(node_id, key, "", 0.0, node_id, candidate, {node_id: 0}, tid)
    aes = "AES-128 (CMAC, CCM)"
    return [
        RoleFootprint("SBI, a node", bytes_of(installation), _in_hand(Kind.F4, Kind.F8, Kind.F1, Kind.F5), aes),
        RoleFootprint(
            "SBR, a controller",
            bytes_of(transaction) + bytes_of(TidReservation()),
            _in_hand(Kind.F1, Kind.F3, Kind.F2, Kind.F4),
            aes + ", clock",
        ),
        RoleFootprint("SBS, a server", bytes_of(node), _in_hand(Kind.F2, Kind.F6, Kind.F3, Kind.F7), aes + ", clock"),
    ]


def _in_hand(*kinds: Kind) -> int:
    taken, made = kinds[:2], kinds[2:]
    return max(_SIZES[kind] for kind in taken) + max(_SIZES[kind] for kind in made)
