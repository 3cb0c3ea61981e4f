"""What the fuzz of every protocol needs: changed datagrams, and how much an endpoint holds after them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path


def mutated(data: bytes, rng: random.Random, head: Callable[[int], int] | None = None, longest: int = 40) -> bytes:
    """Return a datagram with some of its bytes changed, cut, repeated or made longer, by less than `longest` at once.
    `head` draws another first octet, as in another kind of frame, from the one that it has."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(5):
            case 0 if out:
                out[rng.randrange(len(out))] = rng.randrange(256)
            case 1:
                del out[rng.randrange(len(out) + 1) :]
            case 2:
                out += rng.randbytes(rng.randrange(longest))
            case 3 if out and head:
                out[0] = head(out[0])
            case _:
                start = rng.randrange(len(out) + 1)
                out[start:start] = out[: rng.randrange(24)]
    return bytes(out)


def resident() -> int:
    """Return the bytes of memory that this process has, C's among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def weight(thing: object, *shared: type, seen: set[int] | None = None) -> int:
    """Return the bytes and elements that can be reached from an endpoint; what the program shares, as enums, functions
    and things of the types `shared`, counts nothing."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (Enum, type, *shared)) or callable(thing):
        return 0
    seen.add(id(thing))
    match thing:
        case bytes() | str():
            return len(thing)
        case Mapping():
            parts = [part for pair in thing.items() for part in pair]
            return len(thing) + sum(weight(part, *shared, seen=seen) for part in parts)
    if is_dataclass(thing):
        return sum(weight(getattr(thing, field.name), *shared, seen=seen) for field in fields(thing))
    if hasattr(thing, "__dict__"):
        return sum(weight(part, *shared, seen=seen) for part in vars(thing).values())
    if hasattr(thing, "__iter__"):
        return sum(1 + weight(part, *shared, seen=seen) for part in thing)
    return 1
